"""A server's SuperLink, and the calls of its Control API that a server makes.

A SuperLink's middlewares are fixed, and each of its connections to SQLite keeps 64 MB of pages and, in statements that
it has prepared, the last update it wrote; ``run_superlink`` arranges the ones and bounds the others. Flower's command
starts for 2 s before each call of the Control API; ``ControlApi`` makes the short ones from this process.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from fl_core.errors import RoundError

_PAGES_KB = 2000
"""What one connection to SQLite may keep of the database: SQLite's own default."""


def run_superlink(arrange: Callable[[Sequence[Any]], list[Any]]) -> None:
    """``flower-superlink``, with this process's arguments, with its middlewares as ``arrange`` gives them."""
    from flwr.superlink import main
    from flwr.superlink.cli import flower_superlink

    stock = main._get_middleware
    vars(main)["_get_middleware"] = lambda: arrange(stock())
    _keep_little()
    flower_superlink()


def _keep_little() -> None:
    """Bound what this process's connections to SQLite hold when they are idle.

    A prepared statement keeps a copy of what was last bound to it, and Python keeps 128 of them for each connection.
    """
    from flwr.supercore import sql_mixin
    from sqlalchemy import Engine, event

    mixin = vars(sql_mixin)
    mixin["SQLITE_PRAGMAS"] = tuple((dict(mixin["SQLITE_PRAGMAS"]) | {"cache_size": str(-_PAGES_KB)}).items())

    @event.listens_for(Engine, "do_connect")
    def prepare_anew(_dialect: object, _record: object, _arguments: object, keywords: dict[str, Any]) -> None:
        keywords["cached_statements"] = 0


class ControlApi:
    """The Control API of a SuperLink on this machine, which asks nobody who they are.

    Args:
        address: "host:port".
        root_certificate: PEM of the authority that signed the SuperLink's certificate.

    Raises:
        RoundError: from every method: the SuperLink does not answer within 30 s, or refuses.
    """

    def __init__(self, address: str, root_certificate: bytes) -> None:
        self._address = address
        self._root_certificate = root_certificate

    def register_node(self, public_key: bytes, name: str) -> str:
        """Let the SuperNode with this key (SubjectPublicKeyInfo, PEM) in; gives its node id."""
        from flwr.proto.control_pb2 import RegisterNodeRequest

        return str(self._call("RegisterNode", RegisterNodeRequest(public_key=public_key, name=name)).node_id)

    def unregister_node(self, node_id: str) -> None:
        """Let the SuperNode with this node id out again."""
        from flwr.proto.control_pb2 import UnregisterNodeRequest

        self._call("UnregisterNode", UnregisterNodeRequest(node_id=int(node_id)))

    def nodes(self) -> dict[bytes, str]:
        """Node ids of the SuperNodes that are let in, by their public keys as ``register_node`` took them."""
        return {node.public_key: str(node.node_id) for node in self._let_in()}

    def names(self) -> dict[int, str]:
        """What ``register_node`` called the SuperNodes that are let in, by their ids."""
        return {node.node_id: node.name for node in self._let_in()}

    def run_status(self, run_id: str) -> str:
        """Flower's word for how a run is: pending, starting, running or finished."""
        from flwr.proto.control_pb2 import ListRunsRequest

        runs = self._call("ListRuns", ListRunsRequest(run_id=int(run_id))).run_dict
        return str(runs[int(run_id)].status.status)

    def newest_runs(self) -> dict[str, str]:
        """Flower's word for how each of the runs that were submitted last is, by their ids."""
        from flwr.proto.control_pb2 import ListRunsRequest

        runs = self._call("ListRuns", ListRunsRequest()).run_dict
        return {str(run_id): str(run.status.status) for run_id, run in runs.items()}

    def stop_run(self, run_id: str) -> None:
        """End a run and its ServerApp."""
        from flwr.proto.control_pb2 import StopRunRequest

        if not self._call("StopRun", StopRunRequest(run_id=int(run_id))).success:
            raise RoundError(f"flower: run {run_id} could not be stopped")

    def _let_in(self) -> list[Any]:
        from flwr.proto.control_pb2 import ListNodesRequest
        from flwr.supercore.constant import NodeStatus

        known = self._call("ListNodes", ListNodesRequest()).nodes_info
        return [node for node in known if node.status != NodeStatus.UNREGISTERED]

    def _call(self, method: str, request: Any) -> Any:
        import httpx
        from flwr.supercore.control import ControlHttpClient
        from flwr.supercore.interceptors import RuntimeVersionHttpInterceptor

        version = [RuntimeVersionHttpInterceptor(component_name="flwr CLI")]
        client = ControlHttpClient.from_server_address(self._address, False, self._root_certificate, version)
        try:
            return getattr(client, method)(request)
        except httpx.HTTPStatusError as error:
            raise RoundError(f"flower: {method}: refused with {error.response.text.strip()[:300]}") from None
        except (httpx.HTTPError, ValueError) as error:
            raise RoundError(f"flower: {method}: no answer from the SuperLink ({error})") from None
        finally:
            client.close()
