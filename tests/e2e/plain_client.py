"""What the README promises to every NATS client, with nats-py alone: `NATS_URL=… python -I plain_client.py`.

Prints one JSON object with what came back. Imports nothing of Penstock.
"""

import asyncio
import json
import os
import sys
from typing import Any

import nats
from nats.aio.client import Client

QUESTION = {"question": "Does plan HMO-483 cover physiotherapy after ACL surgery?"}
Found = dict[str, Any]


async def publish(nc: Client, payload: Found, msg_id: str = "") -> tuple[int, bool]:
    headers = {"Nats-Msg-Id": msg_id} if msg_id else None
    ack = await nc.jetstream().publish("jobs.default.rag", json.dumps(payload).encode(), headers=headers)
    return ack.seq, bool(ack.duplicate)


async def results_of(nc: Client, job: str) -> Found:
    """All messages of a job until its report, by the last word of their subjects."""
    subscription = await nc.jetstream().subscribe(f"results.default.{job}.>", ordered_consumer=True)
    found: Found = {}
    while "done" not in found:
        message = await subscription.next_msg(timeout=30)
        found[message.subject.rsplit(".", 1)[1]] = json.loads(message.data)
    await subscription.unsubscribe()
    return found


async def by_sequence(nc: Client) -> Found:
    sequence, _ = await publish(nc, {"items": [QUESTION]})
    return {"job": str(sequence), "results": await results_of(nc, str(sequence))}


async def by_own_id(nc: Client) -> Found:
    sequence, _ = await publish(nc, {"items": [QUESTION], "job": "plain-own-id"}, "plain-ignored")
    return {"sequence": sequence, "results": await results_of(nc, "plain-own-id")}


async def by_message_id(nc: Client) -> Found:
    first = await publish(nc, {"items": [QUESTION]}, "plain-msg-id")
    second = await publish(nc, {"items": [QUESTION]}, "plain-msg-id")
    return {"first": first, "second": second, "results": await results_of(nc, "plain-msg-id")}


async def asks(nc: Client) -> Found:
    found: Found = {}
    for name, subject, payload in (
        ("good", "ask.default.rag", json.dumps(QUESTION).encode()),
        ("no_json", "ask.default.rag", b"{"),
        ("no_question", "ask.default.rag", b"{}"),
        ("no_pattern", "ask.default.ragg", json.dumps(QUESTION).encode()),
        ("two_items", "ask.default.rag", json.dumps({"items": [QUESTION, QUESTION]}).encode()),
        ("bad_option", "ask.default.rag", json.dumps({"items": [QUESTION], "options": {"n": "x"}}).encode()),
    ):
        reply = await nc.request(subject, payload, timeout=30)
        found[name] = {"body": json.loads(reply.data), "headers": dict(reply.headers or {})}
    return found


async def services(nc: Client) -> list[Found]:
    inbox = nc.new_inbox()
    subscription = await nc.subscribe(inbox)
    await nc.publish("$SRV.INFO", reply=inbox)
    found: list[Found] = []
    while len(found) < 7:
        found.append(json.loads((await subscription.next_msg(timeout=5)).data))
    return found


async def streamed(nc: Client) -> Found:
    subscription = await nc.subscribe("tokens.default.plain-tokens.0")
    await nc.flush()
    await publish(nc, {"items": [QUESTION], "job": "plain-tokens"})
    deltas: list[Found] = []
    while not deltas or not deltas[-1].get("finish_reason"):
        deltas.append(json.loads((await subscription.next_msg(timeout=30)).data))
    return {"deltas": deltas, "results": await results_of(nc, "plain-tokens")}


async def main(url: str) -> None:
    nc = await nats.connect(url)
    found = {
        "by_sequence": await by_sequence(nc),
        "by_own_id": await by_own_id(nc),
        "by_message_id": await by_message_id(nc),
        "asks": await asks(nc),
        "services": await services(nc),
        "streamed": await streamed(nc),
        "modules": sorted({name.partition(".")[0] for name in sys.modules}),
    }
    await nc.close()
    print(json.dumps(found))


asyncio.run(main(os.environ["NATS_URL"]))
