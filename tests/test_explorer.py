"""The page of the latent spaces, in a real browser where there is one."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

from common.metrics import FEW_STEPS, predict, psnr
from common.pretrained import load_model
from MAP_template import map_estimate, map_loss
from report import explorer

import numpy as np
import pytest
import torch
from PIL import Image
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.actions import interaction
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.support.ui import WebDriverWait

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "figures" / "explorer.html"
TOLERANCE = 1e-4  # of a pixel in [0, 1]: the page adds up in another order


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    """Headless Chromium or Chrome; skip where there is none."""
    names = ("chromium", "chromium-browser", "google-chrome")
    found = next(filter(None, map(shutil.which, names)), None)
    driver = shutil.which("chromedriver")
    if not (found and driver):
        pytest.skip("needs Chromium or Chrome, and chromedriver")
    settings = webdriver.ChromeOptions()
    settings.binary_location = found
    profile = tmp_path_factory.mktemp("profile")
    for argument in (
        "--headless",
        "--no-sandbox",
        "--disable-gpu",
        "--disable-background-networking",
        "--disable-component-update",
        "--disable-sync",
        "--no-first-run",
        f"--user-data-dir={profile}",
    ):
        settings.add_argument(argument)
    settings.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=settings, service=Service(driver)) as chrome:
        yield chrome


@pytest.fixture
def page(browser, committed_checkpoints):
    """The committed page, newly opened in a window of desktop size."""
    browser.set_window_size(1200, 900)
    browser.get(PAGE.as_uri())
    WebDriverWait(browser, 20).until(lambda _: browser.find_element("id", "digit").text)
    yield browser
    assert not browser.get_log("browser")


def pixels(page, canvas):
    return page.execute_script(f"return document.getElementById('{canvas}').toDataURL()")


def decoded(page):
    return page.find_element("id", "place").text, pixels(page, "decoded")


@pytest.mark.slow
def test_the_page_is_built_from_the_checkpoints(checkpoints, few_digits, tmp_path):
    where = [f"--checkpoint-dir={checkpoints}", f"--figures-dir={tmp_path}"]
    explorer.main(["--dataset=digits", "--limit=64", *where])
    (path,) = tmp_path.rglob("explorer.html")
    found = re.search(r'id="content">(.*?)</script>', path.read_text(encoding="utf-8"))
    content = json.loads(found[1])
    assert content["planes"].keys() == {"autoencoder", "vae"}
    labels, x = few_digits.labels_test, few_digits.x_clean_test[: explorer.NEAREST_OF]
    assert list(base64.b64decode(content["labels"])) == labels.tolist()
    for name, model in (("autoencoder", "autoencoder"), ("vae", "vae2")):
        latents = np.frombuffer(base64.b64decode(content["planes"][name]["latents"]), "<f4")
        h = predict(load_model(model, checkpoints / "digits/limit-64").encode, x)
        assert latents[: h.numel()] == pytest.approx(h.flatten().tolist(), abs=1e-5)
    vae, x_noisy = load_model("vae16", checkpoints / "digits/limit-64"), few_digits.x_noisy_example
    beta, z_init = few_digits.noise**2, predict(vae.encode, x_noisy)
    z, x_estimate, losses = map_estimate(vae.decode, x_noisy, 16, beta, z_init, **FEW_STEPS)
    losses = torch.cat([losses, map_loss(x_noisy, x_estimate, z, beta)[None]]).T
    denoising, x_clean = content["denoising"], few_digits.x_clean_example
    assert denoising["labels"] == few_digits.labels_example.tolist()
    torch.testing.assert_close(torch.tensor(denoising["losses"]), losses, rtol=1e-3, atol=0.01)
    for i, clean in enumerate(x_clean):
        found = denoising["psnr_noisy"][i], denoising["psnr"][i][0], denoising["psnr"][i][-1]
        images = x_noisy, predict(vae.reconstruct, x_noisy), x_estimate
        assert found == pytest.approx([psnr(x[i], clean) for x in images], abs=0.05)
    for sprite, expected in (
        (content["images"], x),
        (denoising["clean"], x_clean),
        (denoising["noisy"], x_noisy.clamp(0, 1)),
        (denoising["estimates"], x_estimate.clamp(0, 1)),
    ):
        with Image.open(io.BytesIO(base64.b64decode(sprite.partition(",")[2]))) as file:
            seen = torch.from_numpy(np.array(file)) / 255.0
        seen = seen.view(len(expected), -1, 1, 32, 32)[:, -1]  # the last of an example's estimates
        torch.testing.assert_close(seen, expected, atol=0.003, rtol=0)


def test_the_committed_page_is_small_and_asks_for_nothing_from_the_network():
    text = PAGE.read_text(encoding="utf-8")
    assert len(text) < 2 * 2**20
    assert "default-src 'none'" in text
    assert "://" not in text
    start, end = explorer.TEMPLATE.read_text(encoding="utf-8").split("{{ content }}")
    assert text.startswith(start)
    assert text.endswith(end)


@pytest.mark.parametrize(("tab", "name"), [("autoencoder", "autoencoder"), ("vae", "vae2")])
def test_the_decoders_of_the_page_are_those_of_pytorch(page, tab, name):
    page.find_element("id", f"tab-{tab}").click()
    model = load_model(name, ROOT / "checkpoints")
    torch.manual_seed(0)
    scale, shift = (5.0, 0.0) if name == "autoencoder" else (4.0, -2.0)
    z = scale * torch.rand(20, 2) + shift
    found = page.execute_script(
        "return arguments[0].map((z) => Array.from(plane.decode(z)))", z.tolist()
    )
    images = predict(model.decode, z)
    torch.testing.assert_close(torch.tensor(found), images.flatten(1), atol=TOLERANCE, rtol=0)


def test_the_pointer_and_the_arrow_keys_move_the_image(page):
    before, plane = decoded(page), page.find_element("id", "scatter")
    ActionChains(page).move_to_element_with_offset(plane, -100, 100).perform()
    moved = decoded(page)
    plane.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP)
    assert len({before, moved, decoded(page)}) == 3


def test_a_finger_moves_the_image_and_a_tap_pins(page):
    plane, before = page.find_element("id", "scatter"), decoded(page)
    finger = ActionBuilder(page, mouse=PointerInput(interaction.POINTER_TOUCH, "finger"))
    finger.pointer_action.move_to(plane, -80, 90).pointer_down().move_to(plane, 60, 20).pointer_up()
    finger.perform()
    dragged = decoded(page)
    assert dragged != before
    assert page.execute_script("return pins.length") == 0
    tap = ActionBuilder(page, mouse=PointerInput(interaction.POINTER_TOUCH, "finger"))
    tap.pointer_action.move_to(plane, 10, 10).pointer_down().pointer_up()
    tap.perform()
    assert decoded(page) != dragged
    assert page.execute_script("return pins.length") == 1


def test_only_the_vae_shows_the_prior(page):
    for tab, shown in (("autoencoder", False), ("vae", True)):
        page.find_element("id", f"tab-{tab}").click()
        assert page.find_element("id", "prior").is_displayed() == shown


def test_two_pins_draw_a_line_that_the_slider_moves_along(page):
    plane, walk = page.find_element("id", "scatter"), page.find_element("id", "walk")
    for place in (-150, 120):
        assert not walk.is_displayed()
        ActionChains(page).move_to_element_with_offset(plane, place, place).click().perform()
    assert walk.is_displayed()
    at_the_end, slider = decoded(page), page.find_element("id", "line")
    slider.send_keys(Keys.HOME)
    at_the_start = decoded(page)
    slider.send_keys(Keys.ARROW_RIGHT)
    assert len({at_the_end, at_the_start, decoded(page)}) == 3
    ActionChains(page).move_to_element(plane).click().perform()  # begins a new line
    assert not walk.is_displayed()


def test_the_estimate_forms_along_the_iterations(page):
    page.find_element("id", "tab-denoising").click()
    slider = page.find_element("id", "iterations")
    assert pixels(page, "estimate") == pixels(page, "bottleneck")
    losses = []
    for key in (Keys.HOME, Keys.ARROW_RIGHT, Keys.END):
        slider.send_keys(key)
        losses.append(float(page.find_element("id", "loss").text))
    assert losses[0] != losses[1] > losses[2]
    assert losses[0] > losses[2]
    assert pixels(page, "estimate") != pixels(page, "bottleneck")
    clean = pixels(page, "clean")
    page.find_elements("css selector", "#examples button")[3].click()
    assert pixels(page, "clean") != clean


def test_a_narrow_window_shows_one_column(page):
    page.set_window_size(390, 844)
    width = page.execute_script("return document.documentElement.scrollWidth")
    assert width <= page.execute_script("return innerWidth")
    plane, image = (page.find_element("id", name) for name in ("scatter", "decoded"))
    assert image.location["y"] > plane.location["y"] + plane.size["height"]
