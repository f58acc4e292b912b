"""A real Prometheus on loopback that scrapes every half second, and the chart's rules with windows as much shorter."""

import asyncio
import json
import re
import shutil
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from math import isnan
from pathlib import Path
from typing import Any

import helm_python as helm
import httpx
import yaml

from tests.serving.servers import free_port, until

PROGRAM = shutil.which("prometheus")
PROMTOOL = shutil.which("promtool")
NOT_HERE = "there is no prometheus here (Debian's package prometheus)"
NAMESPACE = "shop"
SPEED = 120
"""How much shorter windows are: five minutes are 2.5 seconds, of which four or five scrapes are."""

CHART = Path(__file__).parents[2] / "helm" / "stockroom"
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400}
_WINDOW = re.compile(r"\[(\d+)([smhd])\]")
_SCRAPE_MS = 500

Group = dict[str, Any]


def rendered(values: dict[str, Any]) -> dict[str, str]:
    """The chart's texts by template."""
    return helm.Chart.load(CHART).render(values, name="stockroom", namespace=NAMESPACE)


def rule_groups(values: dict[str, Any] | None = None) -> list[Group]:
    """The rules as the chart renders them."""
    values = values or {}
    texts = rendered({**values, "prometheusRule": {"enabled": True, **values.get("prometheusRule", {})}})
    groups: list[Group] = yaml.safe_load(texts["stockroom/templates/prometheusrule.yaml"])["spec"]["groups"]
    return groups


def alerts_of(groups: list[Group]) -> dict[str, dict[str, Any]]:
    """By name."""
    return {rule["alert"]: rule for group in groups for rule in group["rules"] if "alert" in rule}


class Prometheus:
    """Asks it.

    Args:
        url: where it listens.
        targets: the file in which it finds whom to scrape.
    """

    def __init__(self, url: str, targets: Path) -> None:
        self._client = httpx.AsyncClient(base_url=url, timeout=10)
        self._targets = targets

    def scrape(self, ports: dict[str, int]) -> None:
        """Scrape these ports from now on, each as the only instance of a job."""
        labels = {job: {"job": job, "instance": f"{job}-0", "namespace": NAMESPACE} for job in ports}
        found = [{"targets": [f"127.0.0.1:{port}"], "labels": labels[job]} for job, port in ports.items()]
        # Seen whole: it looks at the folder, and reads whatever is there.
        written = self._targets.with_suffix(".new")
        written.write_text(json.dumps(found))
        written.rename(self._targets)

    async def query(self, expression: str) -> list[float]:
        """The values of an instant query, those that are not a number left out."""
        answer = (await self._client.get("/api/v1/query", params={"query": expression})).json()
        assert answer["status"] == "success", (expression, answer)
        values = [float(series["value"][1]) for series in answer["data"]["result"]]
        return [value for value in values if not isnan(value)]

    async def firing(self) -> set[str]:
        """Names of alerts."""
        found = (await self._client.get("/api/v1/alerts")).json()["data"]["alerts"]
        return {alert["labels"]["alertname"] for alert in found if alert["state"] == "firing"}

    async def is_ready(self) -> bool:
        try:
            return (await self._client.get("/-/ready")).status_code == 200
        except httpx.TransportError:
            return False

    async def close(self) -> None:
        await self._client.aclose()


@asynccontextmanager
async def running_prometheus(folder: Path, groups: list[Group]) -> AsyncIterator[Prometheus]:
    """A Prometheus that evaluates these rules, quicker; nobody is scraped yet."""
    rules, targets, settings = folder / "rules.yaml", folder / "targets.json", folder / "prometheus.yaml"
    rules.write_text(yaml.safe_dump({"groups": [_quicker(group) for group in groups]}))
    targets.write_text("[]")
    interval = f"{_SCRAPE_MS}ms"
    settings.write_text(
        yaml.safe_dump(
            {
                "global": {"scrape_interval": interval, "scrape_timeout": interval, "evaluation_interval": interval},
                "rule_files": [str(rules)],
                "scrape_configs": [{"job_name": "stockroom", "file_sd_configs": [{"files": [str(targets)], "refresh_interval": "1s"}]}],
            }
        )
    )
    port = free_port()
    options = [f"--config.file={settings}", f"--storage.tsdb.path={folder / 'data'}", f"--web.listen-address=127.0.0.1:{port}"]
    process = await asyncio.create_subprocess_exec(str(PROGRAM), *options, stderr=asyncio.subprocess.DEVNULL)
    prometheus = Prometheus(f"http://127.0.0.1:{port}", targets)
    try:
        await until(prometheus.is_ready, 30)
        yield prometheus
    finally:
        await prometheus.close()
        process.kill()
        await process.wait()


def _quicker(group: Group) -> Group:
    return {**group, "rules": [_quicker_rule(rule) for rule in group["rules"]]}


def _quicker_rule(rule: dict[str, Any]) -> dict[str, Any]:
    quicker = {**rule, "expr": _WINDOW.sub(lambda match: f"[{_milliseconds(match[1], match[2])}ms]", rule["expr"])}
    if waits := re.fullmatch(r"(\d+)([smhd])", rule.get("for", "")):
        quicker["for"] = f"{_milliseconds(waits[1], waits[2])}ms"
    return quicker


def _milliseconds(number: str, unit: str) -> int:
    return int(number) * _SECONDS[unit] * 1000 // SPEED
