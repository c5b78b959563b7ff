# SPDX-License-Identifier: BSD-3-Clause
"""The page in a browser: what a person does on it, and what comes back."""

import json
import os
import shutil
import time
import warnings

import numpy as np
import pytest

from sklearn_scan.inspection import apply_edits, write_gallery

with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # those of its dependencies
    webdriver = pytest.importorskip("selenium.webdriver", reason="selenium is missing")
    from selenium.webdriver.common.keys import Keys

BINARY = shutil.which("chromium") or shutil.which("google-chrome")
DRIVER = shutil.which("chromedriver")
pytestmark = [
    pytest.mark.skipif(not (BINARY and DRIVER), reason="Chromium is missing"),
    # Sockets of the driver are closed when they are collected.
    pytest.mark.filterwarnings("ignore::ResourceWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

OPTIONS = (
    "--headless=new",
    "--no-sandbox",
    "--disable-gpu",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--window-size=1280,900",
)
STABILITY = [0.9, 0.7, 0.3, np.nan, 0.8]
HOSTILE = ["<img src=x onerror=alert(1)>", "</script><script>alert(1)</script>"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tmp_path_factory.mktemp("downloads")


@pytest.fixture(scope="module")
def driver(folder, tmp_path_factory):
    options = webdriver.ChromeOptions()
    options.binary_location = BINARY
    for option in OPTIONS:
        options.add_argument(option)
    options.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    options.add_experimental_option(
        "prefs",
        {
            "download.default_directory": str(folder),
            # A page may download several files without being asked about it.
            "profile.default_content_setting_values.automatic_downloads": 1,
        },
    )
    options.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    service = webdriver.ChromeService(executable_path=DRIVER)
    driver = webdriver.Chrome(options=options, service=service)
    yield driver
    driver.quit()


@pytest.fixture(scope="module")
def page(clusterer, X, tmp_path_factory):
    path = tmp_path_factory.mktemp("page") / "clusters.html"
    captions = [f"image {i:03d}.png" for i in range(300)]
    captions[7] = HOSTILE[0]
    names = ["nil", "one", "two", "three", HOSTILE[1]]
    return write_gallery(
        clusterer,
        X,
        path,
        captions=captions,
        names=names,
        n_core=20,
        stability=STABILITY,
    )


class Reader:
    """A person at the page."""

    def __init__(self, driver, page):
        self.driver = driver
        self.url = page.as_uri()

    def open(self, place="overview"):
        self.driver.get("about:blank")
        self.driver.get(f"{self.url}#{place}")
        return self

    def run(self, script, *arguments):
        return self.driver.execute_script(script, *arguments)

    def find(self, selector):
        return self.driver.find_element("css selector", selector)

    def all(self, selector):
        return self.driver.find_elements("css selector", selector)

    def texts(self, selector):
        return [element.text for element in self.all(selector)]

    def names(self):
        return [element.get_property("value") for element in self.all("#view .name")]

    def click(self, selector):
        self.find(selector).click()

    def press(self, *keys):
        webdriver.ActionChains(self.driver).send_keys(*keys).perform()

    def rename(self, cluster, name):
        field = self.find(f'#view [data-name="{cluster}"]')
        field.click()
        self.run("arguments[0].select()", field)
        self.press(name, Keys.ENTER)

    def choose(self, cluster):
        self.click(f'#chooser [data-cluster="{cluster}"]')

    def toast(self):
        return self.run("return document.getElementById('toast').textContent")


@pytest.fixture
def reader(driver, page):
    reader = Reader(driver, page).open()
    reader.run("localStorage.clear()")
    reader.open()
    driver.get_log("browser")
    yield reader
    found = [entry["message"] for entry in driver.get_log("browser")]
    # Of what tests of the map do.
    assert [message for message in found if "willReadFrequently" not in message] == []


def download(reader, folder, button, name):
    file = folder / name
    if file.exists():
        os.remove(file)
    reader.click(button)
    wait_for(file.exists)
    return file


def wait_for(condition, seconds=20):
    end = time.monotonic() + seconds
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def members(clusterer, cluster):
    """Return members of a cluster, the most confident first."""
    found = np.flatnonzero(clusterer.labels_ == cluster)
    return found[np.argsort(-clusterer.confidence_[found], kind="stable")]


def test_the_page_opens(reader, clusterer):
    assert int(reader.run("return document.documentElement.dataset.ready")) < 3000
    assert len(reader.all(".card")) == 5
    sizes = np.bincount(clusterer.labels_)
    for text, size in zip(reader.texts(".numbers"), sizes, strict=True):
        assert f"{size} images" in text
    assert reader.names() == ["nil", "one", "two", "three", HOSTILE[1]]
    title = reader.driver.title
    assert title == "300 samples in 5 clusters"


def test_clusters_of_low_stability_are_marked(reader):
    def find(text):
        return [text in numbers for numbers in reader.texts(".numbers")]

    assert find("stability") == [True, True, True, False, True]
    assert find("stability 0.70") == find("doubtful") == [c == 1 for c in range(5)]
    assert find("stability 0.30") == find("unstable") == [c == 2 for c in range(5)]
    reader.click('#sorting option[value="unstable"]')
    assert reader.names()[:3] == ["two", "one", HOSTILE[1]]
    # Of what has been merged, nothing is known.
    reader.click('.card[data-cluster="2"] .near button')
    assert sum(find("stability")) < 4
    assert sum(find("unstable")) == 0


@pytest.mark.parametrize("place", ["overview", "cluster-1", "map", "edits", "nowhere"])
@pytest.mark.parametrize("width", [390, 1280])
@pytest.mark.parametrize("theme", ["light", "dark"])
def test_nothing_is_cut_off(place, width, theme, reader):
    driver = reader.driver
    size = {"width": width, "height": 800, "deviceScaleFactor": 1, "mobile": False}
    features = [{"name": "prefers-color-scheme", "value": theme}]
    driver.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", size)
    driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})
    try:
        reader.open(place)
        assert reader.run("return document.documentElement.scrollWidth") <= width
        ground = reader.run("return getComputedStyle(document.body).backgroundColor")
        level = int(ground.partition("(")[2].partition(",")[0])
        assert (level < 100) == (theme == "dark")
    finally:
        driver.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
        driver.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": []})


def test_edits_come_back(reader, clusterer, folder):
    reader.rename(1, "digit one")
    reader.rename(2, "  ")  # has no name then, and keeps the old one
    reader.open("cluster-3")
    found = members(clusterer, 3)
    moved, wrong, undone = found[found != clusterer.prototypes_[3]][:3].tolist()
    reader.click(f'#view .tiles [data-sample="{moved}"]')
    reader.press("m")
    reader.choose(1)
    reader.find(f'#view .tiles [data-sample="{wrong}"]').click()
    reader.press("x")
    reader.find(f'#view .tiles [data-sample="{undone}"]').click()
    reader.press("x")
    reader.press("u")
    reader.open("overview")
    reader.click('[data-cluster="4"] .near button')
    into = next(c for c in range(4) if reader.run(MERGED, 4, c))
    assert len(reader.all(".card")) == 4

    expected = np.array(clusterer.labels_)
    expected[moved] = 1
    expected[expected == 4] = into
    expected[wrong] = -1
    saved = download(reader, folder, "#save-json", "edits.json")
    edits = apply_edits(clusterer, saved)
    np.testing.assert_array_equal(edits.labels, expected)
    assert edits.names == ["nil", "digit one", "two", "three"]
    assert edits.wrong.tolist() == [wrong]
    prototypes = clusterer.prototypes_
    assert [moved, prototypes[1]] in edits.must_link.tolist()
    assert [prototypes[4], prototypes[into]] in edits.must_link.tolist()

    table = apply_edits(clusterer, download(reader, folder, "#save-csv", "labels.csv"))
    np.testing.assert_array_equal(table.labels, expected)
    assert table.names == edits.names
    np.testing.assert_array_equal(table.must_link, edits.must_link)

    # A reload loses nothing, and everything can be undone and done again.
    reader.open("edits")
    assert len(reader.all(".edits li:not(.undone)")) == 4
    for _ in range(5):
        reader.press("u")
    assert len(reader.all(".edits li.undone")) == 4
    again = apply_edits(clusterer, download(reader, folder, "#save-json", "edits.json"))
    np.testing.assert_array_equal(again.labels, clusterer.labels_)
    for _ in range(5):
        reader.press("U")
    again = download(reader, folder, "#save-json", "edits.json")
    np.testing.assert_array_equal(apply_edits(clusterer, again).labels, expected)


MERGED = """
const list = JSON.parse(Object.entries(localStorage).find(
  ([key]) => key.startsWith("sklearn_scan.gallery."))[1]).list;
const last = list.at(-1);
return last.type === "merge" && last.cluster === arguments[0]
  && last.into === arguments[1];
"""


def test_edits_go_to_another_browser(reader, clusterer, folder):
    reader.rename(0, "renamed")
    reader.click('[data-cluster="3"] .near button')
    reader.open("cluster-1")
    for key in ("m", "x"):
        reader.click('section[aria-label="Core"] .tile')
        reader.press(key)
        if key == "m":
            reader.choose(2)
    saved = download(reader, folder, "#save-json", "edits.json")
    before = apply_edits(clusterer, saved)
    reader.run("localStorage.clear()")
    reader.open("edits")
    field = '[aria-label="Edits from another browser"]'
    for text, says in [("{}", "another clustering"), ("no", "is not taken")]:
        (folder / "bad.json").write_text(text)
        reader.find(field).send_keys(str(folder / "bad.json"))
        wait_for(lambda says=says: says in reader.toast())
    reader.find(field).send_keys(str(saved))
    wait_for(lambda: "Added 4 edits" in reader.toast())
    after = apply_edits(clusterer, download(reader, folder, "#save-json", "edits.json"))
    np.testing.assert_array_equal(after.labels, before.labels)
    assert after.names == before.names
    assert len(before.wrong) == 1


def test_a_merged_cluster_can_be_named_and_emptied(reader, clusterer, folder):
    reader.open("cluster-0")
    reader.press("m")
    reader.press("tw", Keys.ENTER)
    assert "merged into" in reader.find("#view").text
    reader.open("cluster-2")
    reader.rename(2, "both")
    first, second = members(clusterer, 0)[0], members(clusterer, 2)[0]
    for i in (first, second):
        reader.run(
            "document.querySelector(arguments[0]).click()",
            f'.tiles [data-sample="{i}"]',
        )
        reader.press("m")
        reader.choose(3)
    edits = apply_edits(clusterer, download(reader, folder, "#save-json", "edits.json"))
    assert edits.names == ["one", "both", "three", HOSTILE[1]]
    expected = np.array([1, 0, 1, 2, 3])[clusterer.labels_]
    expected[[first, second]] = 2
    np.testing.assert_array_equal(edits.labels, expected)


def test_several_images_are_moved_together(reader, clusterer, folder):
    reader.open("cluster-1")
    tiles = reader.all('section[aria-label="Core"] .tile')
    chosen = [int(tile.get_attribute("data-sample")) for tile in tiles]
    hold = webdriver.ActionChains(reader.driver)
    hold.key_down(Keys.CONTROL).click(tiles[0]).key_up(Keys.CONTROL)
    hold.key_down(Keys.SHIFT).click(tiles[3]).key_up(Keys.SHIFT).perform()
    assert "4 selected" in reader.find("#selection").text
    reader.press("m")
    reader.choose(2)
    edits = apply_edits(clusterer, download(reader, folder, "#save-json", "edits.json"))
    expected = np.array(clusterer.labels_)
    expected[chosen[:4]] = 2
    np.testing.assert_array_equal(edits.labels, expected)
    assert not reader.find("#selection").is_displayed()


def test_the_panel_shows_neighbours_and_probabilities(reader, clusterer, digits):
    reader.open("cluster-2")
    i = members(clusterer, 2)[-1]
    reader.click(f'#view .tiles [data-sample="{i}"]')
    tiles = reader.all("#panel .tile")
    shown = [int(tile.get_attribute("data-sample")) for tile in tiles]
    assert shown == clusterer.neighbors_[i][:8].tolist()
    chances = clusterer.predict_proba(digits[0][i : i + 1])[0]
    found = reader.texts("#panel .chances .value")
    assert float(found[0].split()[-2]) == pytest.approx(100 * chances[2], abs=0.6)
    tiles[0].click()
    assert f"image {shown[0]:03d}" in reader.find("#panel").text
    reader.press(Keys.ESCAPE)
    assert not reader.find("#panel").is_displayed()


def test_borderline_images_show_their_second_choice(reader, clusterer, digits):
    reader.open("cluster-1")
    tile = reader.find('section[aria-label="Borderline"] .tile')
    i = int(tile.get_attribute("data-sample"))
    assert i == members(clusterer, 1)[-1]
    order = np.argsort(clusterer.predict_proba(digits[0][i : i + 1])[0])[::-1]
    lines = [line.text for line in tile.find_elements("css selector", ".line")]
    names = ["nil", "one", "two", "three", HOSTILE[1]]
    assert lines[0].endswith("here")
    assert lines[1].endswith(names[order[1]])


def test_keys_alone_will_do(reader, clusterer):
    reader.press(Keys.ARROW_RIGHT, Keys.ARROW_RIGHT, Keys.ENTER)
    assert reader.run("return location.hash") == "#cluster-1"
    reader.press("r", "new name", Keys.ENTER)
    assert reader.names() == ["new name"]
    reader.press("n")
    assert reader.run("return location.hash") == "#cluster-2"
    reader.press(Keys.ARROW_DOWN, Keys.ARROW_RIGHT, Keys.ENTER)
    assert reader.find("#panel").is_displayed()
    reader.press("x")
    assert "Marked 1 image as wrong" in reader.toast()
    reader.press(Keys.ESCAPE, Keys.ESCAPE)
    assert reader.run("return location.hash") == "#overview"
    reader.press("?")
    assert "undo" in reader.find("#help").text
    reader.press(Keys.ESCAPE, "/", "image 29")
    assert len(reader.all("#view .tile")) == 10
    reader.press(Keys.ESCAPE)
    assert len(reader.all(".card")) == 5


def test_every_image_has_a_text_and_every_control_a_name(reader):
    nameless = """
    return [...document.querySelectorAll("button, a, input, select, [role=img]")]
      .filter((each) => !(each.ariaLabel || each.textContent.trim()
                          || each.labels?.length)).length;
    """
    for place in ("overview", "cluster-1", "map", "edits"):
        reader.open(place)
        assert reader.run(nameless) == 0


FILLED = """
const canvas = document.getElementById("canvas");
const { width, height } = canvas;
const pixels = canvas.getContext("2d").getImageData(0, 0, width, height).data;
const isFilled = (x, y) => pixels[4 * (y * width + x) + 3] > 0;
for (let y = 23; y < height; y += 46) {
  for (let x = 23; x < width; x += 46) {
    if (isFilled(x, y) && isFilled(x + 12, y + 12)) {
      return [x - width / 2, y - height / 2];
    }
  }
}
return null;
"""


@pytest.mark.parametrize("kind", ["clusters", "embedding"])
def test_the_map_opens_what_is_clicked(kind, reader):
    reader.open("map")
    reader.click(f'.heading option[value="{kind}"]')
    reader.click('[aria-label="Zoom in"]')
    wait_for(lambda: reader.run(FILLED))
    time.sleep(0.3)  # until the last sheet is drawn
    mouse = webdriver.ActionChains(reader.driver)
    place = [int(offset) for offset in reader.run(FILLED)]
    mouse.move_to_element_with_offset(reader.find("#canvas"), *place).perform()
    name = reader.find(".tip span:nth-child(2)").text
    mouse.click().perform()
    assert reader.find("#panel .caption").text == name
    before = reader.run("return document.getElementById('canvas').toDataURL()")
    reader.run("document.getElementById('canvas').focus()")
    reader.press(Keys.ARROW_LEFT, "+")
    script = "return document.getElementById('canvas').toDataURL() !== arguments[0]"
    wait_for(lambda: reader.run(script, before))


def test_hostile_names_are_text(reader, clusterer, folder):
    for place in ("overview", "map", "edits", f"cluster-{clusterer.labels_[7]}"):
        reader.open(place)
        assert reader.all("img") == []
    reader.open("overview")
    reader.press("/", "<img")
    assert HOSTILE[0] in reader.find("#view .tile").get_attribute("aria-label")
    reader.click("#view .tile")
    assert HOSTILE[0] in reader.find("#panel").text
    reader.open("overview")
    reader.rename(0, "=1+1")
    reader.rename(1, '<b onmouseover="alert(1)">,')
    file = download(reader, folder, "#save-csv", "labels.csv")
    cells = file.read_text(encoding="utf-8-sig")
    assert ",=1" not in cells
    assert apply_edits(clusterer, file).names[:2] == [
        "=1+1",
        '<b onmouseover="alert(1)">,',
    ]
    assert reader.all("b") == []


def test_what_others_stored_is_not_trusted(reader, page):
    digest = page.read_text().partition('"digest":"')[2].partition('"')[0]
    key = f"sklearn_scan.gallery.{digest}"
    bad = [{"type": "move", "samples": [0], "into": 99}, {"type": "constructor"}]
    for stored in ("no JSON", json.dumps({"list": bad, "done": 2}), "null"):
        reader.run("localStorage.setItem(arguments[0], arguments[1])", key, stored)
        reader.open("overview")
        assert len(reader.all(".card")) == 5
        assert reader.find("#undo").get_property("disabled")
