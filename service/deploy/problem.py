"""The one error of the command: a sentence that says what is wrong and what to do."""

FAILED = 1
"""Exit status if a command of gcloud failed, or nobody agreed."""
WRONG = 2
"""Exit status if an option, the login, the project or the bucket has to be put right first."""


class DeployProblem(Exception):
    """Deploying cannot go on. The text is for people."""

    def __init__(self, text: str, status: int = FAILED) -> None:
        super().__init__(text)
        self.status = status
