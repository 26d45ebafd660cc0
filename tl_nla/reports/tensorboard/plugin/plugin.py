"""Server side of the Contributions tab: lists runs, prompts and steps, and hands out one report as JSON.

TensorBoard imports this module through the entry point whenever it starts, for whatever it is started. So nothing here
imports torch or reads a file before it is asked to.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

from tensorboard import plugin_util
from tensorboard.backend import http_util
from tensorboard.data import provider
from tensorboard.plugins import base_plugin
from werkzeug import wrappers

from tl_nla.errors import InputError, unknown
from tl_nla.reports.packed import PACKED, pack
from tl_nla.reports.report_schema import SCHEMA, check_report
from tl_nla.reports.tensorboard.plugin.names import PLUGIN_NAME, SHARED, STATIC, STYLE

_SCRIPTS = {f"/{name}.js": "text/javascript" for name in (*SHARED, "server", "index")}
_FILES = {**_SCRIPTS, f"/{STYLE}": "text/css"}
_MOST_STEPS = 1000


class _NotFoundError(InputError):
    """A run, prompt or step that the log folder does not have."""


class _NotReadableError(InputError):
    """A summary that this release cannot show."""


class ContributionsPlugin(base_plugin.TBPlugin):
    """The Contributions tab.

    Args:
        context: TensorBoard's context; only its data provider is used.
    """

    plugin_name = PLUGIN_NAME

    def __init__(self, context: base_plugin.TBContext) -> None:
        self._provider = context.data_provider
        self._latest: tuple[Any, dict[int, tuple[float, bytes]]] = (None, {})

    def is_active(self) -> bool:
        """Leave the answer to TensorBoard, which shows the tab once its data provider lists data of this plugin."""
        return False

    def frontend_metadata(self) -> base_plugin.FrontendMetadata:
        """Name of the tab and the module it loads."""
        return base_plugin.FrontendMetadata(es_module_path="/index.js", tab_name="Contributions")

    def get_plugin_apps(self) -> dict[str, Callable[..., Any]]:
        """Routes: the static files, ``/tags``, ``/steps`` and ``/report``. No route answers in HTML."""
        static = {path: _static_app(path, content_type) for path, content_type in _FILES.items()}
        answers = {"/tags": self._tags, "/steps": self._steps, "/report": self._report}
        return static | {path: _json_app(answer) for path, answer in answers.items()}

    def _tags(self, request: wrappers.Request) -> dict[str, Any]:
        listed = self._list(request)
        return {"runs": {run: sorted(listed[run]) for run in sorted(listed)}}

    def _steps(self, request: wrappers.Request) -> dict[str, Any]:
        points = self._points(request)
        return {"steps": [{"step": step, "wall_time": points[step][0]} for step in sorted(points)]}

    def _report(self, request: wrappers.Request) -> bytes:
        points = self._points(request)
        text = _argument(request, "step")
        if not (text.isascii() and text.isdecimal() and len(text) < 20):
            raise InputError(f"step is a whole number from zero on; got {text!r}")
        if int(text) not in points:
            raise _NotFoundError(str(unknown("step", text, map(str, sorted(points)))))
        return _packed(points[int(text)][1])

    def _list(self, request: wrappers.Request) -> Mapping[str, Mapping[str, provider.TensorTimeSeries]]:
        context = plugin_util.context(request.environ)
        experiment = plugin_util.experiment_id(request.environ)
        return self._provider.list_tensors(context, experiment_id=experiment, plugin_name=PLUGIN_NAME)

    def _points(self, request: wrappers.Request) -> dict[int, tuple[float, bytes]]:
        """Wall time and JSON of every step of the run and tag that the request names."""
        run, tag = _argument(request, "run"), _argument(request, "tag")
        listed = self._list(request)
        for kind, name, options in (("run", run, listed), ("prompt", tag, listed.get(run, {}))):
            if name not in options:
                raise _NotFoundError(str(unknown(kind, name, options)))
        experiment = plugin_util.experiment_id(request.environ)
        series = listed[run][tag]
        # All steps of a tag can only be read together, so the last answer is kept while the tag does not grow.
        key = (experiment, run, tag, series.max_step, series.max_wall_time)
        latest_key, points = self._latest
        if key != latest_key:
            found = self._provider.read_tensors(
                plugin_util.context(request.environ),
                experiment_id=experiment,
                plugin_name=PLUGIN_NAME,
                downsample=_MOST_STEPS,
                run_tag_filter=provider.RunTagFilter(runs=[run], tags=[tag]),
            )
            data = found.get(run, {}).get(tag, ())
            points = {point.step: (point.wall_time, _content(point.numpy)) for point in data}
            self._latest = (key, points)
        return points


def _content(value: Any) -> bytes:
    """Bytes of a string tensor, whatever its shape; empty for anything else."""
    item = value.reshape(-1)[0] if value.size else b""
    return item if isinstance(item, bytes) else str(item).encode()


def _packed(content: bytes) -> bytes:
    """A packed report: as it was written, or made now of the plain JSON that earlier releases wrote."""
    try:
        report = json.loads(content)
    except ValueError as error:
        raise _NotReadableError(f"the summary of this step is no JSON: {error}") from error
    schema = report.get("schema") if isinstance(report, dict) else None
    if schema == PACKED:
        if not isinstance(report.get("data"), str):
            raise _NotReadableError("the packed report of this step has no data")
        return content
    if schema != SCHEMA:
        raise _NotReadableError(f"the report has schema {schema!r}; this release of tl-nla reads {SCHEMA} and {PACKED}")
    try:
        return json.dumps(pack(check_report(report))).encode()
    except InputError as error:
        raise _NotReadableError(str(error)) from error


def _argument(request: wrappers.Request, name: str) -> str:
    if name not in request.args:
        raise InputError(f"the request lacks {name!r}; give it as ?{name}=...")
    return request.args[name]


def _json_app(answer: Callable[[wrappers.Request], Any]) -> Callable[..., Any]:
    """WSGI app that answers in JSON, errors included: ``{"error": line}`` and the fitting status."""

    @wrappers.Request.application
    def app(request: wrappers.Request) -> wrappers.Response:
        if request.method not in ("GET", "HEAD"):
            return _respond(request, {"error": f"{request.method} is not allowed; use GET"}, 405, [("Allow", "GET")])
        try:
            return _respond(request, answer(request))
        except InputError as error:
            code = {_NotFoundError: 404, _NotReadableError: 422}.get(type(error), 400)
            return _respond(request, {"error": str(error)}, code)

    return app


def _respond(request: wrappers.Request, content: Any, code: int = 200, headers: Any = ()) -> wrappers.Response:
    return http_util.Respond(request, content, "application/json", code=code, headers=list(headers))


def _static_app(path: str, content_type: str) -> Callable[..., Any]:
    """WSGI app of one file; the paths are a fixed table, so none is built from a request."""

    @wrappers.Request.application
    def app(request: wrappers.Request) -> wrappers.Response:
        return http_util.Respond(request, (STATIC / path[1:]).read_bytes(), content_type)

    return app
