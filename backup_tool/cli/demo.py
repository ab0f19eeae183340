"""`backup demo`: the main job on a sample store, in a temporary directory."""

from backup_tool.cli.app import verb
from backup_tool.cli.session import Session


@verb(repository=False)
def demo(session: Session) -> None:
    """Do the main job for real on a sample store made on the spot: archive, list, restore, extract, check. Leaves nothing behind."""
    from backup_tool.actions.demo import demo as perform

    steps: list[dict[str, str]] = []

    def step(command: str, result: str) -> None:
        steps.append({"command": command, "result": result})
        if not session.common.json:
            print(f"$ {command}\n{result}\n")

    perform(step, session.progress)
    session.result(steps, lambda: None)
