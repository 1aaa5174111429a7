"""From what is there to what is wanted: look at each step, make what is missing, take away what is not wanted."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from service.deploy.gcloud import Gcloud, NotThere
from service.deploy.problem import WRONG, DeployProblem
from service.deploy.states import MARK, State, bears_mark
from service.deploy.step import Step


@dataclass(frozen=True, slots=True)
class Changes:
    """What there is to do, each in the order in which it is done."""

    make: list[Step]
    update: list[Step]
    remove: list[Step]

    def __bool__(self) -> bool:
        return bool(self.make or self.update or self.remove)


def changes(steps: Sequence[Step], gcloud: Gcloud, *, undo: bool) -> Changes:
    """Look at all steps and return what there is to do.

    Raises:
        DeployProblem: a name is taken by something that is not ours.
    """
    found = Changes([], [], [])
    foreign: list[Step] = []
    for step in steps:
        if undo or not step.wanted:
            if is_removable(step, gcloud):
                found.remove.insert(0, step)
            continue
        match state_of(step, gcloud):
            case State.MISSING:
                found.make.append(step)
            case State.OUTDATED:
                found.update.append(step)
            case State.FOREIGN:
                foreign.append(step)
    if foreign:
        raise _taken(foreign)
    return found


def state_of(step: Step, gcloud: Gcloud) -> State:
    """Look at a step."""
    found = gcloud.look(f"{step.look} --format=json")
    if found is None:
        return State.MISSING
    try:
        return step.read(found, gcloud.fill)
    except NotThere:
        return State.MISSING


def _taken(steps: Sequence[Step]) -> DeployProblem:
    names = ", ".join(step.what for step in steps)
    are, them = ("is", "it") if len(steps) == 1 else ("are", "them")
    kinds = " or ".join(sorted({"label" if "." in step.mark else "description" for step in steps}))
    return DeployProblem(
        f"{names} {are} there already, and not made by this command: delete {them}, or hand {them} over by the {kinds} "
        f"{MARK}",
        WRONG,
    )


def is_removable(step: Step, gcloud: Gcloud) -> bool:
    """Return True if the thing is there, ours, and does not go with another one."""
    if not step.remove or state_of(step, gcloud) not in {State.READY, State.OUTDATED}:
        return False
    if step.proof is None:
        return True
    command, mark = step.proof
    return bears_mark(gcloud.look(f"{command} --format=json"), mark)


def make(steps: Iterable[Step], gcloud: Gcloud) -> None:
    """Make what is missing and renew what is outdated, step by step.

    Raises:
        DeployProblem: a command fails.
    """
    for step in steps:
        state = state_of(step, gcloud) if step.wanted else State.READY
        if state is State.READY:
            continue
        if state is State.FOREIGN:
            raise _taken([step])
        gcloud.say(f"  + {step.what}: {step.why}")
        with_removal = state is State.OUTDATED and step.replaced
        _run(step, (*step.remove, *step.make) if with_removal else step.make, gcloud)


def remove(steps: Iterable[Step], gcloud: Gcloud) -> None:
    """Take away what is ours, in the order given.

    Raises:
        DeployProblem: a command fails.
    """
    for step in steps:
        if is_removable(step, gcloud):
            gcloud.say(f"  - {step.what}")
            _run(step, step.remove, gcloud)


def _run(step: Step, commands: Iterable[str], gcloud: Gcloud) -> None:
    for command in commands:
        try:
            gcloud.do(command)
        except DeployProblem as problem:
            raise DeployProblem(f"{step.what}: {problem}; call this again to go on", problem.status) from None
