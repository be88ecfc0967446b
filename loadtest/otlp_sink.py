"""Takes what OTLP over HTTP brings and throws it away: `python -m loadtest.otlp_sink PORT`."""

import sys

from aiohttp import web


async def _take(request: web.Request) -> web.Response:
    await request.read()
    return web.Response(content_type="application/x-protobuf")


def main(port: int) -> None:
    app = web.Application(client_max_size=64 << 20)
    app.router.add_post("/v1/{signal}", _take)
    web.run_app(app, host="127.0.0.1", port=port, print=None)


if __name__ == "__main__":
    main(int(sys.argv[1]))
