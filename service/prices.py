"""Google's prices, by which costs are reckoned: list prices that the setting PRICES replaces."""

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field

from service.storage.classes import StorageClass

_Price = Annotated[float, Field(ge=0, allow_inf_nan=False)]


class Prices(BaseModel):
    """Google's prices in US dollars: list prices for us-central1, of buckets in one region, as of November 2026.

    From cloud.google.com/storage/pricing and cloud.google.com/run/pricing, which are what counts. In a dual-region or
    multi-region, operations of class A cost twice as much.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    class_a_per_10000: _Price = Field(0.05, description="Listing, and writing to Standard storage.")
    class_b_per_10000: _Price = Field(0.004, description="Reading from Standard storage.")
    nearline_class_a_per_10000: _Price = Field(0.1, description="Writing to Nearline storage.")
    nearline_class_b_per_10000: _Price = Field(0.01, description="Reading from it.")
    nearline_retrieval_gib: _Price = Field(0.01, description="A gibibyte that is read from it.")
    coldline_class_a_per_10000: _Price = Field(0.2, description="Writing to Coldline storage.")
    coldline_class_b_per_10000: _Price = Field(0.1, description="Reading from it.")
    coldline_retrieval_gib: _Price = Field(0.02, description="A gibibyte that is read from it.")
    archive_class_a_per_10000: _Price = Field(0.5, description="Writing to Archive storage.")
    archive_class_b_per_10000: _Price = Field(0.5, description="Reading from it.")
    archive_retrieval_gib: _Price = Field(0.05, description="A gibibyte that is read from it.")
    vcpu_second: _Price = Field(0.000018, description="Of a job; a service billed by requests asks 0.000024.")
    gib_second: _Price = Field(0.000002, description="Of a job; a service billed by requests asks 0.0000025.")
    gib_per_task: _Price = Field(0.5, description="Memory of one task.")
    vcpu_per_task: float = Field(1, gt=0, allow_inf_nan=False, description="Processors of one task.")

    def class_a(self, storage_class: StorageClass) -> float:
        """Return the price of an operation of class A."""
        return self._of(storage_class, "class_a_per_10000") / 10_000

    def class_b(self, storage_class: StorageClass) -> float:
        """Return the price of an operation of class B."""
        return self._of(storage_class, "class_b_per_10000") / 10_000

    def retrieval_gib(self, storage_class: StorageClass) -> float:
        """Return the fee for a gibibyte that is read."""
        return 0.0 if storage_class is StorageClass.STANDARD else self._of(storage_class, "retrieval_gib")

    @property
    def task_second(self) -> float:
        """The price of a second of one task: its processors and its memory."""
        return self.vcpu_per_task * self.vcpu_second + self.gib_per_task * self.gib_second

    def _of(self, storage_class: StorageClass, name: str) -> float:
        prefix = "" if storage_class is StorageClass.STANDARD else f"{storage_class.lower()}_"
        return float(getattr(self, f"{prefix}{name}"))
