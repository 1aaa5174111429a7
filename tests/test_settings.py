import pytest

from service.errors import WrongSettings
from service.images.spec import Box, OutputFormat
from service.naming import Layout
from service.settings import Settings, load_settings
from service.storage.addresses import FolderLocation
from service.storage.classes import StorageClass


@pytest.fixture(autouse=True)
def _only_these(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


def load(monkeypatch: pytest.MonkeyPatch, **values: str) -> Settings:
    monkeypatch.setenv("INPUT_FOLDER", "gs://photos/in")
    for name, value in values.items():
        monkeypatch.setenv(name, value)
    return load_settings()


def test_the_input_folder_alone_is_enough(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(monkeypatch)
    assert settings.input_folder == FolderLocation("photos", "in/")
    assert settings.destination_bucket == "photos"
    assert settings.output_layout is Layout.FLAT
    assert settings.thumbnail_sizes == (Box(100, 100),)
    assert settings.output_format is OutputFormat.ORIGINAL
    assert settings.max_source_bytes == 64 * 1024 * 1024
    assert settings.max_image_pixels == 100_000_000
    assert (settings.cloud_run_task_index, settings.cloud_run_task_count) == (0, 1)
    assert settings.port == 8080
    assert not any(spec.shows_damaged for spec in settings.specs)
    assert 1 <= settings.concurrency <= 48


def test_values_are_read_in_the_ways_people_write_them(monkeypatch: pytest.MonkeyPatch) -> None:
    settings = load(
        monkeypatch,
        OUTPUT_BUCKET="gs://thumbs/",
        OUTPUT_LAYOUT="TREE",
        THUMBNAIL_SIZES="100x100, 400x300",
        OUTPUT_FORMAT="WebP",
        MAX_SOURCE_BYTES="16MiB",
        LOG_LEVEL="debug",
        CACHE_CONTROL="public, max-age=3600",
        ANIMATED="true",
        IMAGE_DETECTION="Content",
        DAMAGED="Show",
        MEMORY_BUDGET="300MiB",
        CONCURRENCY="",
    )
    assert settings.destination_bucket == "thumbs"
    assert settings.output_layout is Layout.TREE
    assert settings.thumbnail_sizes == (Box(100, 100), Box(400, 300))
    assert settings.output_format is OutputFormat.WEBP
    assert settings.max_source_bytes == 16 * 1024 * 1024
    assert settings.log_level == "DEBUG"
    assert settings.animated
    assert settings.image_detection == "content"
    assert all(spec.shows_damaged for spec in settings.specs)
    assert settings.memory_budget == 300 * 1024 * 1024
    assert settings.cache_control == "public, max-age=3600"


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("INPUT_FOLDER", "photos/in"),
        ("INPUT_FOLDER", "gs://x"),
        ("INPUT_FOLDER", "gs://photos/20251203T15Z"),
        ("INPUT_FOLDER", "gs://photos/thumbnail-runs/x"),
        ("OUTPUT_BUCKET", "gs://thumbs/folder"),
        ("OUTPUT_LAYOUT", "nested"),
        ("THUMBNAIL_SIZES", "100"),
        ("THUMBNAIL_SIZES", "100x100,"),
        ("THUMBNAIL_SIZES", "100x100,100x100"),
        ("THUMBNAIL_SIZES", "0x100"),
        ("OUTPUT_FORMAT", "bmp"),
        ("CACHE_CONTROL", "public\nmax-age=1"),
        ("CACHE_CONTROL", "für immer"),
        ("OUTPUT_QUALITY", "0"),
        ("OUTPUT_QUALITY", "101"),
        ("OUTPUT_QUALITY", "high"),
        ("CONCURRENCY", "0"),
        ("MAX_SOURCE_BYTES", "0"),
        ("MAX_SOURCE_BYTES", "much"),
        ("MAX_IMAGE_PIXELS", "-1"),
        ("LOG_LEVEL", "LOUD"),
        ("LOG_FORMAT", "xml"),
        ("PORT", "0"),
        ("PORT", "http"),
        ("CLOUD_RUN_TASK_INDEX", "-1"),
        ("CLOUD_RUN_TASK_INDEX", "1"),
        ("CLOUD_RUN_TASK_COUNT", "0"),
        ("STORAGE_EMULATOR_HOST", "127.0.0.1:4443"),
        ("ANIMATED", "sometimes"),
        ("IMAGE_DETECTION", "guess"),
        ("DAMAGED", "hide"),
        ("MEMORY_BUDGET", "0"),
        ("MEMORY_BUDGET", "300Mi"),
        ("INCLUDE", "**/*.jpg,[a-"),
        ("INCLUDE", "a,,b"),
        ("EXCLUDE", "{a,b"),
        ("EXCLUDE", "**/[z-a]*"),
        ("PRICES", "cheap"),
        ("PRICES", '{"class_c": 1}'),
        ("STORAGE_CLASSES", "STANDARD,GLACIER"),
        ("STORAGE_CLASSES", "NEARLINE,,ARCHIVE"),
        ("OUTPUT_STORAGE_CLASS", "REGIONAL"),
        ("MAX_RUN_DOLLARS", "-1"),
        ("MAX_RUN_DOLLARS", "nan"),
        ("MAX_RUN_DOLLARS", "inf"),
        ("MAX_RUN_DOLLARS", "$5"),
    ],
)
def test_a_wrong_value_is_refused_with_its_name_and_itself(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    with pytest.raises(WrongSettings) as caught:
        load(monkeypatch, **{name: value})
    (line,) = str(caught.value).splitlines()
    assert line.startswith(f"{name}: ")
    assert repr(value)[1:-1].lower() in line.lower()


def test_the_glob_that_is_wrong_among_others_is_named(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongSettings, match=r"^EXCLUDE: '\*\*/a/\*\*, \[b' has the glob '\[b', which "):
        load(monkeypatch, EXCLUDE="**/a/**, [b")


def test_globs_shape_the_output_and_no_globs_leave_it_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load(monkeypatch, INCLUDE="").output_fingerprint
    assert "cluding" not in plain
    included = load(monkeypatch, INCLUDE="*.jpg").output_fingerprint
    both = load(monkeypatch, EXCLUDE="*.jpg").output_fingerprint
    monkeypatch.delenv("INCLUDE")
    excluded = load_settings().output_fingerprint
    assert len({plain, included, excluded, both}) == 4


def test_storage_classes_are_read_in_any_order_and_shape_the_output(monkeypatch: pytest.MonkeyPatch) -> None:
    plain = load(monkeypatch).output_fingerprint
    settings = load(monkeypatch, STORAGE_CLASSES="nearline, STANDARD", OUTPUT_STORAGE_CLASS="Archive")
    assert settings.storage_classes == (StorageClass.STANDARD, StorageClass.NEARLINE)
    assert settings.output_storage_class is StorageClass.ARCHIVE
    same = load(monkeypatch, STORAGE_CLASSES="STANDARD,NEARLINE,NEARLINE").output_fingerprint
    assert settings.output_fingerprint == same != plain


def test_a_wrong_class_is_named_and_so_are_those_that_there_are(monkeypatch: pytest.MonkeyPatch) -> None:
    with pytest.raises(WrongSettings) as caught:
        load(monkeypatch, STORAGE_CLASSES="STANDARD,GLACIER", OUTPUT_STORAGE_CLASS="cold")
    assert str(caught.value).splitlines() == [
        "OUTPUT_STORAGE_CLASS: 'cold' is none of STANDARD,NEARLINE,COLDLINE,ARCHIVE",
        "STORAGE_CLASSES: 'STANDARD,GLACIER' has the class 'GLACIER'; use some of STANDARD,NEARLINE,COLDLINE,ARCHIVE",
    ]


def test_a_limit_of_dollars_may_be_zero(monkeypatch: pytest.MonkeyPatch) -> None:
    assert load(monkeypatch).max_run_dollars is None
    assert load(monkeypatch, MAX_RUN_DOLLARS="0").max_run_dollars == 0
    assert load(monkeypatch, MAX_RUN_DOLLARS="2.5").max_run_dollars == 2.5


def test_all_that_is_wrong_is_said_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("THUMBNAIL_SIZES", "big")
    monkeypatch.setenv("PORT", "none")
    with pytest.raises(WrongSettings) as caught:
        load_settings()
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["INPUT_FOLDER", "PORT", "THUMBNAIL_SIZES"]
    assert "gs://my-bucket/photos" in lines[0]


def test_what_contradicts_each_other_is_said_with_the_rest(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("INPUT_FOLDER", "gs://photos/thumbnail-runs/x")
    monkeypatch.setenv("CLOUD_RUN_TASK_INDEX", "5")
    monkeypatch.setenv("CLOUD_RUN_TASK_COUNT", "2")
    monkeypatch.setenv("CONCURRENCY", "0")
    with pytest.raises(WrongSettings) as caught:
        load_settings()
    lines = str(caught.value).splitlines()
    assert [line.partition(":")[0] for line in lines] == ["CLOUD_RUN_TASK_INDEX", "CONCURRENCY", "INPUT_FOLDER"]
    assert "CLOUD_RUN_TASK_COUNT is 2" in lines[0]


@pytest.mark.parametrize("name", ["OUTPUT_BUCKET", "CLOUD_RUN_TASK_COUNT"])
def test_what_depends_on_a_wrong_value_is_not_judged(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setenv("INPUT_FOLDER", "gs://photos/thumbnail-runs/x")
    monkeypatch.setenv("OUTPUT_BUCKET", "thumbs")
    monkeypatch.setenv("CLOUD_RUN_TASK_INDEX", "1")
    monkeypatch.setenv("CLOUD_RUN_TASK_COUNT", "2")
    monkeypatch.setenv(name, "?")
    with pytest.raises(WrongSettings) as caught:
        load_settings()
    assert [line.partition(":")[0] for line in str(caught.value).splitlines()] == [name]
