"""judge: composition. Run with `python -m services.judge.app`."""

from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts.steps import Judge
from services.judge.adapters.rubrics import BUILT_IN, load_rubrics
from services.judge.config import JudgeSettings
from services.judge.handlers import judge
from shared.service import Runtime, main, service


@asynccontextmanager
async def build(runtime: Runtime[JudgeSettings]) -> AsyncIterator[None]:
    own = runtime.settings.rubrics
    rubrics = load_rubrics(BUILT_IN, *([own] if own else []))
    runtime.on(Judge, lambda task, step: judge(task.items, step, task.options, rubrics, task.lane))
    yield


app = service(JudgeSettings, build)

if __name__ == "__main__":
    main(app)
