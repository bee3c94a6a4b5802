"""The page of the latent spaces, in a real browser where there is one."""

import base64
import io
import json
import re
import shutil
from pathlib import Path

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
from selenium.webdriver.common.actions.wheel_input import ScrollOrigin
from selenium.webdriver.support.ui import WebDriverWait

from common.dataset import load_image
from common.latent import neighbors
from common.metrics import predict, psnr
from common.pretrained import load_model
from MAP_template import map_estimate, map_loss
from report import explorer

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


def drawn(page):
    """Wait until the page has drawn what was requested."""
    page.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0]))")


def decoded(page):
    drawn(page)
    return page.find_element("id", "place").text, pixels(page, "decoded")


def network(name):
    """Return a model with its weights rounded to half precision, as those of the page are."""
    return load_model(name).half().float()


@pytest.mark.slow
def test_the_page_is_built_from_the_checkpoints(out, few_digits):
    explorer.main(["--dataset=digits", f"--out={out}"])
    (path,) = out.rglob("explorer.html")
    found = re.search(r'id="content">(.*?)</script>', path.read_text(encoding="utf-8"))
    content = json.loads(found[1])
    labels, x = few_digits.labels_test, few_digits.x_clean_test[: explorer.NEAREST_OF]
    assert list(base64.b64decode(content["labels"])) == labels.tolist()
    for name, model in (("autoencoder", "autoencoder"), ("vae", "vae2")):
        latents = np.frombuffer(base64.b64decode(content["planes"][name]["latents"]), "<f2")
        h = predict(load_model(model, out).encode, x)
        assert latents[: h.numel()] == pytest.approx(h.flatten().tolist(), abs=1e-2, rel=1e-3)
    vae, x_noisy = load_model("vae16", out), few_digits.x_noisy_example
    beta, z_init = few_digits.noise**2, predict(vae.encode, x_noisy)
    z, x_estimate, losses = map_estimate(vae.decode, x_noisy, 16, beta, z_init)
    losses = torch.cat([losses, map_loss(x_noisy, x_estimate, z, beta)[None]]).T
    denoising, x_clean = content["denoising"], few_digits.x_clean_example
    assert denoising["labels"] == few_digits.labels_example.tolist()
    steps = denoising["iterations"]
    assert (steps[:3], steps[-1], denoising["beta"]) == ([0, 1, 2], 60, beta)
    torch.testing.assert_close(
        torch.tensor(denoising["losses"]), losses[:, steps], rtol=1e-3, atol=0.01
    )
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
    assert len(text) < 2.5 * 2**20
    assert "default-src 'none'" in text
    assert "://" not in text
    start, end = explorer.TEMPLATE.read_text(encoding="utf-8").split("{{ content }}")
    assert text.startswith(start)
    assert text.endswith(end)


def outputs(page, name, inputs):
    """Return what a network of the page makes of each row of `inputs`."""
    run = "return arguments[1].map((x) => Array.from(networks[arguments[0]](Float64Array.from(x))))"
    return torch.tensor(page.execute_script(run, name, inputs.flatten(1).tolist()))


@pytest.mark.parametrize(
    ("name", "model", "low", "high"),
    [("autoencoder", "autoencoder", 0, 5), ("vae", "vae2", -2, 2), ("vae16", "vae16", -2, 2)],
)
def test_the_encoders_and_decoders_of_the_page_are_those_of_pytorch(
    page, mnist, name, model, low, high
):
    found, x = network(model), mnist.x_clean_test[:20]
    encode = getattr(found.encoder, "layers", found.encoder)
    expected = predict(encode, x).flatten(1)
    close = {"atol": TOLERANCE, "rtol": TOLERANCE}
    torch.testing.assert_close(outputs(page, f"{name}, encoder", x), expected, **close)
    torch.manual_seed(0)
    z = low + (high - low) * torch.rand(20, 16 if name == "vae16" else 2)
    expected = predict(found.decode, z).flatten(1)
    torch.testing.assert_close(outputs(page, f"{name}, decoder", z), expected, **close)


def test_the_classifier_of_the_page_is_that_of_pytorch(page, mnist):
    found, x = outputs(page, "classifier", mnist.x_clean_test[:20]), mnist.x_clean_test[:20]
    torch.testing.assert_close(
        found, predict(network("classifier"), x), atol=TOLERANCE, rtol=TOLERANCE
    )


def draw(page, *corners):
    """Draw a line through places of the field, in shares of its size from the center."""
    field = page.find_element("id", "draw")
    places = [[round(share * field.size["width"]) for share in corner] for corner in corners]
    chain = ActionChains(page, duration=20).move_to_element_with_offset(field, *places[0])
    chain.click_and_hold()
    for x, y in places[1:]:
        chain.move_to_element_with_offset(field, x, y)
    chain.release().perform()
    drawn(page)
    WebDriverWait(page, 10).until(lambda _: page.find_element("id", "read").text[-1].isdigit())


SEVEN = [(-0.25, -0.3), (0.2, -0.3), (-0.05, 0.35)]


def test_a_drawn_seven_is_read_and_lands_among_the_sevens(page, mnist, tmp_path):
    names = ("prepared", "by-autoencoder", "by-vae", "by-vae16")
    empty = [pixels(page, name) for name in names]
    draw(page, *SEVEN)
    assert page.find_element("id", "read").text == "read as a 7"
    assert page.execute_script("return prepare(gray(), field.width).length") == 32 * 32
    h = torch.tensor([page.execute_script("return planes.vae.own")])
    near = neighbors(predict(network("vae2").encode, mnist.x_clean_test), h, count=20)
    assert (mnist.labels_test[near] == 7).float().mean() > 0.5
    assert "100 %" in page.find_element("id", "probabilities").text
    for name, before in zip(names, empty, strict=True):
        assert pixels(page, name) != before, name
    # The same preparation as `load_image`, for a field that is brighter and one that is darker.
    for darken in ("", "ink.globalCompositeOperation = 'difference'; ink.fillStyle = '#fff';"):
        page.execute_script(f"{darken} if ({len(darken)}) ink.fillRect(0, 0, 280, 280)")
        png = base64.b64decode(pixels(page, "draw").partition(",")[2])
        (tmp_path / "drawn.png").write_bytes(png)
        found = page.execute_script("return Array.from(prepare(gray(), field.width))")
        expected = load_image(tmp_path / "drawn.png").flatten().tolist()
        assert found == pytest.approx(expected, abs=TOLERANCE)


def test_clear_empties_the_field(page):
    draw(page, *SEVEN)
    page.find_element("id", "clear").click()
    assert page.execute_script("return [prepare(gray(), 280), plane.own]") == [None, None]
    assert not page.find_element("id", "read").text[-1].isdigit()


def test_the_pointer_and_the_arrow_keys_move_the_image(page):
    before, plane = decoded(page), page.find_element("id", "scatter")
    ActionChains(page).move_to_element_with_offset(plane, -100, 100).perform()
    moved = decoded(page)
    plane.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP)
    assert len({before, moved, decoded(page)}) == 3


def test_the_start_covers_no_name_and_no_name_another(page):
    for tab in ("autoencoder", "vae"):
        page.find_element("id", f"tab-{tab}").click()
        script = "return [...plane.names, plane.here].map((place) => toPixels(place, 1))"
        places = page.execute_script(script)
        for i, (x, y) in enumerate(places):
            assert all(np.hypot(x - a, y - b) > 0.035 for a, b in places[:i])


def finger(name="finger"):
    return PointerInput(interaction.POINTER_TOUCH, name)


def test_a_finger_moves_the_image_and_a_tap_pins(page):
    plane, before = page.find_element("id", "scatter"), decoded(page)
    drag = ActionBuilder(page, mouse=finger())
    drag.pointer_action.move_to(plane, -80, 90).pointer_down().move_to(plane, 60, 20).pointer_up()
    drag.perform()
    dragged = decoded(page)
    assert dragged != before
    assert page.execute_script("return plane.pins.length") == 0
    tap = ActionBuilder(page, mouse=finger())
    tap.pointer_action.move_to(plane, 10, 10).pointer_down().pointer_up()
    tap.perform()
    assert decoded(page) != dragged
    assert page.execute_script("return plane.pins.length") == 1


def test_the_wheel_and_two_fingers_zoom_and_a_button_shows_the_whole_plane_again(page):
    plane, whole = page.find_element("id", "scatter"), page.find_element("id", "whole")

    def width():
        return page.execute_script("return plane.view.half / plane.whole.half")

    assert not whole.is_enabled()
    origin = ScrollOrigin.from_element(plane, 50, 50)
    ActionChains(page).scroll_from_origin(origin, 0, -300).perform()
    WebDriverWait(page, 10).until(lambda _: whole.is_enabled())
    zoomed = width()
    assert zoomed < 0.7
    fingers = [ActionBuilder(page, mouse=finger(name)) for name in ("one", "two")]
    for builder, side in zip(fingers, (-1, 1), strict=True):
        action = builder.pointer_action
        action.move_to(plane, 30 * side, 0).pointer_down()
        action.move_to(plane, 90 * side, 0).pointer_up()
    fingers[0].devices += fingers[1].devices
    fingers[0].perform()
    WebDriverWait(page, 10).until(lambda _: width() < 0.7 * zoomed)
    whole.click()
    WebDriverWait(page, 10).until(lambda _: not whole.is_enabled())
    assert width() == 1


def test_the_page_says_where_no_latent_can_be_and_what_the_circles_are(page):
    plane, said = page.find_element("id", "scatter"), page.find_element("id", "impossible")
    ActionChains(page).move_to_element_with_offset(plane, 0, 280).perform()
    drawn(page)
    assert "negative" in said.text
    page.find_element("id", "tab-vae").click()
    assert page.find_element("id", "prior").is_displayed()
    ActionChains(page).move_to_element_with_offset(plane, 0, 280).perform()
    drawn(page)
    assert said.text == ""
    page.find_element("id", "tab-autoencoder").click()
    assert not page.find_element("id", "prior").is_displayed()


def test_the_slider_and_the_pointer_move_along_the_line_between_two_pins(page):
    plane, walk = page.find_element("id", "scatter"), page.find_element("id", "walk")
    for place in (-150, 120):
        assert not walk.is_displayed()
        ActionChains(page).move_to_element_with_offset(plane, place, place).click().perform()
        drawn(page)
    assert walk.is_displayed()
    at_the_end, slider = decoded(page), page.find_element("id", "line")
    slider.send_keys(Keys.HOME)
    at_the_start = decoded(page)
    assert at_the_start != at_the_end
    page.execute_script("scrollTo(0, 0)")  # from the slider
    # The nearest place of the line from (-150, -150) to (120, 120).
    ActionChains(page).move_to_element_with_offset(plane, 75, -105).perform()
    drawn(page)
    assert float(slider.get_property("value")) == pytest.approx(0.5, abs=0.02)
    assert page.execute_script("return plane.along") == pytest.approx(0.5, abs=0.02)
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    WebDriverWait(page, 10).until(lambda _: not walk.is_displayed())


def test_pins_survive_a_change_of_the_tab_by_the_arrow_keys_and_the_address_keeps_the_point(page):
    plane = page.find_element("id", "scatter")
    ActionChains(page).move_to_element_with_offset(plane, 40, 40).click().perform()
    drawn(page)
    where = page.find_element("id", "place").text
    page.find_element("id", "tab-autoencoder").send_keys(Keys.ARROW_RIGHT)
    assert page.execute_script("return plane.name") == "vae"
    assert page.execute_script("return plane.pins.length") == 0
    assert page.switch_to.active_element.get_attribute("aria-selected") == "true"
    page.switch_to.active_element.send_keys(Keys.ARROW_LEFT)
    assert page.execute_script("return plane.pins.length") == 1
    assert page.find_element("id", "place").text == where
    plane.send_keys(Keys.ARROW_RIGHT)
    drawn(page)
    where = page.find_element("id", "place").text
    WebDriverWait(page, 10).until(lambda _: where[1:-1].replace(" ", "") in page.current_url)
    address = page.current_url
    page.get("about:blank")
    page.get(address)
    WebDriverWait(page, 20).until(lambda _: page.find_element("id", "digit").text)
    assert page.find_element("id", "place").text == where
    page.execute_script("location.hash = '#vae/900,1'")  # as typed; it stays in the plane
    WebDriverWait(page, 10).until(lambda _: page.execute_script("return plane.name") == "vae")
    assert page.execute_script("return plane.here[0] <= limits()[0][1] && plane.here[1] === 1")


def test_a_polite_live_region_says_the_position_and_the_digit(page):
    live = page.find_element("id", "live")
    assert live.get_attribute("aria-live") == "polite"
    page.find_element("id", "scatter").send_keys(Keys.ARROW_RIGHT)

    def said(_):
        digit = page.find_element("id", "digit").text
        a, b = page.find_element("id", "place").text[1:-1].split(", ")
        return live.get_property("textContent") == f"h1 {a}, h2 {b}, near a {digit}"

    WebDriverWait(page, 10).until(said)
    draw(page, *SEVEN)
    assert live.get_property("textContent") == "read as a 7, 100 %"


def test_the_estimate_opens_at_its_end_and_can_be_played(page):
    page.find_element("id", "tab-denoising").click()
    slider, iteration = (page.find_element("id", name) for name in ("frames", "iteration"))
    assert iteration.text == "60"
    assert pixels(page, "estimate") != pixels(page, "bottleneck")
    end = float(page.find_element("id", "loss").text)
    slider.send_keys(Keys.HOME)
    assert iteration.text == "0"
    assert pixels(page, "estimate") == pixels(page, "bottleneck")
    assert float(page.find_element("id", "loss").text) > end
    page.find_element("id", "play").click()
    WebDriverWait(page, 20).until(lambda _: iteration.text == "60")
    clean, curve = pixels(page, "clean"), pixels(page, "curve")
    page.find_elements("css selector", "#examples button")[3].click()
    assert pixels(page, "clean") != clean
    assert pixels(page, "curve") != curve


@pytest.mark.parametrize("size", [(390, 844), (844, 390), (640, 400)])
def test_a_small_window_loses_nothing(page, size):
    """The last one is a window of 1280 x 800 at 200 %."""
    metrics = {"width": size[0], "height": size[1], "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    try:
        for tab in ("denoising", "autoencoder"):
            page.find_element("id", f"tab-{tab}").click()
            width = page.execute_script("return document.documentElement.scrollWidth")
            assert width <= size[0]
        plane, image = (page.find_element("id", name) for name in ("scatter", "decoded"))
        assert 230 < plane.size["height"] == plane.size["width"]
        if size[0] == 390:
            assert image.location["y"] > plane.location["y"] + plane.size["height"]
    finally:
        page.execute_cdp_cmd("Emulation.clearDeviceMetricsOverride", {})
