"""A chart view for MLflow's UI, so that it opens on methods side by side.

MLflow keeps the views that its users save in experiment tags, in a format of the UI that is documented nowhere; this is
the form of 3.17. Where another version does not understand it, the UI shows its own default and nothing else is lost.
"""

from __future__ import annotations

import base64
import json
import logging
import time
import zlib
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, urlencode

if TYPE_CHECKING:
    from mlflow import MlflowClient

logger = logging.getLogger("evo_rnn.tracking")

KEY = "ga-vs-gd"
NAME = "GA vs gradient descent"
HEADLINE = ("validation/loss", "train/loss")
BARS = ("final/test_loss", "final/seconds")
POPULATION = ("population/diversity",)
TAG = "mlflow.sharedViewState."


def write_view(
    client: MlflowClient,
    experiment_id: str,
    key: str = KEY,
    name: str = NAME,
    headline: Sequence[str] = HEADLINE,
    bars: Sequence[str] = BARS,
    population: Sequence[str] = POPULATION,
    metric_x: str = "",
    folded: Sequence[str] = (),
) -> bool:
    """Save a view of the experiment's trials, grouped by method: mean lines with a min-max band, and bars of means.

    Args:
        client: of the store that holds the experiment.
        experiment_id: MLflow's id.
        key: letters, digits and dashes; the link names it.
        name: what the UI calls the view.
        headline: metrics drawn as lines over the step (passes), on a logarithmic axis if they are losses.
        bars: metrics stored once a run; the first one also sorts the table.
        population: metrics for a second section of lines.
        metric_x: a metric over which the first headline is drawn once more; empty for none.
        folded: methods whose runs the table shows as one row, until it is opened.

    Returns:
        Whether the view was written; a failure is logged and nothing else.
    """
    try:
        now = int(time.time() * 1000)
        state = view_state(headline, bars, population, metric_x, folded)
        text = base64.b64encode(zlib.compress(json.dumps(state, separators=(",", ":")).encode())).decode()
        value = {"name": name, "createdAt": now, "updatedAt": now, "state": "deflate;" + text}
        client.set_experiment_tag(experiment_id, TAG + key, json.dumps(value))
    except Exception as error:  # decoration must never cost a result
        logger.info("tracking: the view for MLflow's UI was not written: %s", error)
        return False
    return True


def deep_link(base_url: str, experiment_id: str, key: str = KEY) -> str:
    """Return the address at which the UI opens on the view: charts, in its model-training mode."""
    query = urlencode({"workflowType": "machine_learning", "compareRunsMode": "CHART", "viewStateShareKey": key})
    return f"{base_url.rstrip('/')}/#/experiments/{quote(experiment_id)}/runs?{query}"


def view_state(
    headline: Sequence[str],
    bars: Sequence[str],
    population: Sequence[str],
    metric_x: str = "",
    folded: Sequence[str] = (),
) -> dict[str, Any]:
    """Return the view as plain data: the search, the grouping, the table's columns and the charts."""
    first = [_line(f"headline-{i}", "headline", metric) for i, metric in enumerate(headline)]
    if metric_x and headline:
        first.append(_line("headline-x", "headline", headline[0], metric_x))
    first += [_chart(f"bar-{i}", "headline", "BAR", metric) for i, metric in enumerate(bars)]
    second = [_line(f"population-{i}", "population", metric) for i, metric in enumerate(population)]
    sections = [("headline", "Headline", first), ("population", "Population", second)]
    return {
        "searchFilter": "tags.`evo.kind` = 'trial'",
        "orderByKey": f"metrics.`{bars[0]}`" if bars else "attributes.start_time",
        "orderByAsc": True,
        "startTime": "ALL",
        "lifecycleFilter": "Active",
        "modelVersionFilter": "All Runs",
        "datasetsFilter": [],
        "groupBy": {"aggregateFunction": "average", "groupByKeys": [{"mode": "param", "groupByData": "method"}]},
        "useGroupedValuesInCharts": True,
        "groupsExpanded": {f"param.method.{method}": False for method in folded},
        "runsHiddenMode": "SHOW_ALL",
        "selectedColumns": ["attributes.`Duration`", "params.`seed`", *(f"metrics.`{bar}`" for bar in bars)],
        "compareRunCharts": first + second,
        "compareRunSections": [
            {"uuid": key, "name": name, "display": True, "isReordered": True, "columns": 3, "cardHeight": 300}
            for key, name, charts in sections
            if charts
        ],
        "isAccordionReordered": True,
        "hideEmptyCharts": True,
        "autoRefreshEnabled": True,
        "viewMaximized": True,
        "globalLineChartConfig": {"xAxisKey": "step", "lineSmoothness": 0, "selectedXAxisMetricKey": ""},
    }


def _chart(key: str, section: str, kind: str, metric: str) -> dict[str, Any]:
    return {
        "uuid": key,
        "type": kind,
        "runsCountToCompare": 100,
        "metricSectionId": section,
        "deleted": False,
        "isGenerated": False,
        "displayName": None,
        "metricKey": metric,
    }


def _line(key: str, section: str, metric: str, metric_x: str = "") -> dict[str, Any]:
    return {
        **_chart(key, section, "LINE", metric),
        "selectedMetricKeys": [metric],
        "lineSmoothness": 0,
        "displayPoints": False,
        "scaleType": "log" if "loss" in metric else "linear",
        "xAxisScaleType": "linear",
        "xAxisKey": "metric" if metric_x else "step",
        "selectedXAxisMetricKey": metric_x,
        "yAxisKey": "metric",
        "yAxisExpressions": [],
        "ignoreOutliers": False,
        "useGlobalXaxisKey": not metric_x,
        "useGlobalLineSmoothing": True,
        "range": {},
    }
