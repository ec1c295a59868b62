"""A log that can't be written from the start is nothing that a proxy stops for."""

import os
import signal
import tempfile
from pathlib import Path

from tests.flow.client import fetch
from tests.flow.faults.host_faults import started
from tests.flow.origin import Origin, ok
from tests.flow.processes import Proxy
from tests.servers import free_port


async def test_a_proxy_whose_log_is_on_a_full_disk_serves_and_ends_as_others_do(api: Origin) -> None:
    api.on("/", ok(b"here"))
    with tempfile.TemporaryDirectory(prefix="flow-") as folder:
        path, port, admin_port = Path(folder) / "config.yaml", free_port(), free_port()
        path.write_text(
            f"listen: 127.0.0.1:{port}\nadmin: {{listen: '127.0.0.1:{admin_port}'}}\n"
            f"upstream: {{url: {api.url}}}\nlog: {{access: true}}\n"
        )
        full = os.open("/dev/full", os.O_WRONLY)
        proxy = Proxy(process=started(path, full), config=path, port=port, admin_port=admin_port)
        os.close(full)
        try:
            await _ready(proxy)
            # Several times what a buffer holds.
            answers = [(await fetch(port, f"/{number}")).brief for number in range(200)]
            proxy.send(signal.SIGTERM)
            code = await proxy.ended()
        finally:
            proxy.process.kill()
            proxy.process.wait()

    assert (set(answers), code) == ({(200, b"here")}, 0)


async def _ready(proxy: Proxy) -> None:
    while True:
        try:
            await proxy.ready()
        except ConnectionError:
            continue
        return
