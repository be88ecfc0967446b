"""judge: composition. Run with `python -m services.judge.app`."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from contracts.item import Item
from contracts.steps import Judge
from contracts.task import Task
from services.judge.adapters.rubrics import BUILT_IN, load_rubrics
from services.judge.config import JudgeSettings
from services.judge.domain.keeping import worth_keeping
from services.judge.handlers import judge
from shared.answers import RedisAnswers
from shared.service import Runtime, main, service


@asynccontextmanager
async def build(runtime: Runtime[JudgeSettings]) -> AsyncIterator[None]:
    own = runtime.settings.rubrics
    rubrics = load_rubrics(BUILT_IN, *([own] if own else []))
    answers = RedisAnswers(runtime.redis)

    async def judged(task: Task, step: Judge) -> list[Item]:
        items = await judge(task.items, step, task.options, rubrics, task.lane)
        await answers.keep(task.tenant, worth_keeping(items, time.time()))
        return items

    runtime.on(Judge, judged)
    yield


app = service(JudgeSettings, build)

if __name__ == "__main__":
    main(app)
