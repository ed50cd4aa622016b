"""The forms as a person sees them: a browser fills in dates, runs dry and real, and opens what came of it.

The pictures that it takes are those of docs/operations.md.
"""

from __future__ import annotations

import csv
import datetime as dt
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from playwright.sync_api import Locator, Page, expect, sync_playwright

from serving import ROOT, Service

IMAGES = Path(os.environ.get("TEXTJURY_IMAGES", ROOT / "docs/images"))
DAYS = [dt.date(2026, 11, day) for day in range(1, 11)]
OFF = "".join(f"\n[stages.{name}]\nenabled = false\n" for name in ("zero_shot", "summary", "embedding"))

# What a picture shows must not hang on where the test ran.
PLAIN_PATHS = """() => {
    const walker = document.createTreeWalker(document.body, NodeFilter.SHOW_TEXT)
    while (walker.nextNode()) {
        walker.currentNode.data = walker.currentNode.data.replace(/\\/\\S*\\/project0/g, '/srv/textjury')
    }
}"""


@pytest.fixture(scope="module")
def service(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Service]:
    project = tmp_path_factory.mktemp("project")
    shutil.copytree(ROOT / "rules/inbox", project / "rules/inbox", ignore=shutil.ignore_patterns("ensemble"))
    toml = project / "rules/inbox/pipeline.toml"
    text = toml.read_text("utf-8").replace("../../data/samples/inbox.csv", "../../inbox/{date}/*.csv")
    toml.write_text(
        text.replace("[stages.ner]", "[stages.ner]\nenabled = false").replace("shard_rows = 200", "shard_rows = 20")
        + OFF
    )
    with (ROOT / "data/samples/inbox.csv").open(encoding="utf-8", newline="") as handle:
        rows = [row for row in csv.DictReader(handle) if None not in row]
    for n, day in enumerate(DAYS):
        folder = project / f"inbox/{day}"
        folder.mkdir(parents=True)
        with (folder / "mails.csv").open("w", encoding="utf-8", newline="") as handle:
            writer = csv.DictWriter(handle, fieldnames=list(rows[0]))
            writer.writeheader()
            writer.writerows(rows[n * 17 % 60 : n * 17 % 60 + 60])
    service = Service(project)
    service.start()
    yield service
    service.stop()


@pytest.fixture(scope="module")
def page() -> Iterator[Page]:
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(
            executable_path=shutil.which("chromium") or shutil.which("chromium-browser"), args=["--no-sandbox"]
        )
        page = browser.new_page(viewport={"width": 1200, "height": 1120}, color_scheme="light")
        page.set_default_timeout(60_000)
        expect.set_options(timeout=60_000)
        yield page
        browser.close()


def picture(page: Page, name: str) -> None:
    page.wait_for_timeout(1_000)  # animations
    page.evaluate(PLAIN_PATHS)
    target = IMAGES / f"{name}.png"
    target.parent.mkdir(parents=True, exist_ok=True)
    page.screenshot(path=target)
    assert target.stat().st_size < 200_000, "too large for the documentation"


def field(page: Page, title: str) -> Locator:
    return page.locator(".schema-form-property").filter(has=page.get_by_text(title, exact=False)).last


def pick(page: Page, title: str, day: dt.date, *, shown: str = "") -> None:
    """The day into the calendar behind a date field."""
    field(page, title).locator("button.p-date-button__control").click()
    calendar = page.locator(".p-pop-over-content, .p-date-picker").last
    page.locator("input[type=date]").fill(day.isoformat())
    if shown:
        picture(page, shown)
    page.get_by_role("button", name="Apply").click()
    expect(calendar).to_be_hidden()
    expect(field(page, title).locator(".p-date-button__value")).to_contain_text(str(day.day))


def open_form(page: Page, service: Service, deployment: str) -> None:
    page.goto(f"{service.url}/deployments")
    page.get_by_role("link", name=deployment, exact=True).first.click()
    page.get_by_role("button", name="Run", exact=True).click()
    page.get_by_text("Custom run").click()
    expect(page.get_by_role("button", name="Submit")).to_be_visible()


def submitted(page: Page, service: Service, before: set[str]) -> str:
    """The id of the run that the form started, when it has ended well."""
    for _ in range(5):
        with page.expect_response(lambda answer: answer.url.endswith("/create_flow_run")) as asked:
            page.get_by_role("button", name="Submit").click()
        if asked.value.status != 503:  # SQLite was busy: a person would press the button again
            break
    [run] = {run["id"] for run in service.runs() if not run["auto_scheduled"]} - before
    page.goto(f"{service.url}/runs/flow-run/{run}")
    assert service.wait(run)["state_type"] == "COMPLETED"
    expect(page.locator(".p-badge, .state-badge").get_by_text("Completed").first).to_be_visible()
    return run


def open_artifact(page: Page, service: Service, run: str, key: str) -> None:
    page.goto(f"{service.url}/artifacts/artifact/{service.artifacts(run)[key][-1]['id']}")
    expect(page.get_by_text(key).first).to_be_visible()


def test_nightly_form_runs_one_date_from_the_browser(page: Page, service: Service) -> None:
    open_form(page, service, "nightly")
    field(page, "Date").locator("textarea, input").first.fill("2026-11-01")
    picture(page, "nightly-form")
    run = submitted(page, service, {run["id"] for run in service.runs()})
    assert service.run(run)["name"] == "nightly 2026-11-01"


def test_backfill_form_runs_dry_and_real_from_the_browser(page: Page, service: Service) -> None:
    outside: list[str] = []
    page.on("request", lambda request: outside.append(request.url) if _is_outside(request.url) else None)
    page.goto(f"{service.url}/deployments")
    expect(page.get_by_text("nightly", exact=True).first).to_be_visible()
    picture(page, "deployments")

    open_form(page, service, "backfill")
    pick(page, "From date", DAYS[0], shown="date-picker")
    pick(page, "To date", DAYS[6])
    field(page, "Dry run").locator(".p-toggle__control, [role=switch], input").first.click()
    picture(page, "backfill-form")
    before = {run["id"] for run in service.runs()}
    dry = submitted(page, service, before)
    assert service.run(dry)["name"] == "dry run 2026-11-01..07"
    open_artifact(page, service, dry, "inbox-plan")
    expect(page.get_by_text("dry run of 7 dates")).to_be_visible()
    picture(page, "dry-run")

    open_form(page, service, "backfill")
    pick(page, "From date", DAYS[0])
    pick(page, "To date", DAYS[6])
    before = {run["id"] for run in service.runs()}
    real = submitted(page, service, before)
    assert service.run(real)["name"] == "backfill 2026-11-01..07"
    assert "6 of 7 dates published" in service.run(real)["state"]["message"]
    picture(page, "backfill-run")
    page.get_by_text("Artifacts", exact=True).last.click()
    expect(page.get_by_text("inbox-summary").first).to_be_visible()
    picture(page, "backfill-artifacts")
    open_artifact(page, service, real, "inbox-summary")
    expect(page.get_by_text("60 rows in").first).to_be_visible()
    picture(page, "summary")
    open_artifact(page, service, real, "inbox-labels")
    image = page.locator("img[src^='data:image/svg']")
    expect(image.first).to_be_visible()
    assert image.first.evaluate("picture => picture.naturalWidth") > 100, "the picture was not drawn"
    picture(page, "labels")
    page.goto(f"{service.url}/runs")
    expect(page.get_by_text("nightly 2026-11-01").first).to_be_visible()
    picture(page, "runs")
    assert outside == [], "the pages asked somebody else"


def _is_outside(url: str) -> bool:
    return not url.startswith(("http://127.0.0.1", "ws://127.0.0.1", "data:", "blob:"))
