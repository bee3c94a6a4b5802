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
from matplotlib.colors import to_rgb
from PIL import Image
from selenium import webdriver
from selenium.webdriver import ActionChains, Keys
from selenium.webdriver.chrome.service import Service
from selenium.webdriver.common.actions import interaction
from selenium.webdriver.common.actions.action_builder import ActionBuilder
from selenium.webdriver.common.actions.pointer_input import PointerInput
from selenium.webdriver.support.ui import WebDriverWait

from common.dataset import load_image
from common.latent import PRIOR_RADII
from common.metrics import predict, psnr
from common.plotting import DIGIT_COLORS
from common.pretrained import load_model
from MAP_template import map_estimate
from report import explorer

ROOT = Path(__file__).resolve().parent.parent
PAGE = ROOT / "figures" / "explorer.html"
PLANES = ("autoencoder", "autoencoder"), ("vae", "vae2")  # their models
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
    for argument in ("headless", "no-sandbox", "disable-gpu", "disable-background-networking"):
        settings.add_argument(f"--{argument}")
    settings.add_argument(f"--user-data-dir={tmp_path_factory.mktemp('profile')}")
    settings.set_capability("goog:loggingPrefs", {"browser": "ALL"})
    with webdriver.Chrome(options=settings, service=Service(driver)) as chrome:
        yield chrome


@pytest.fixture
def page(browser, committed_checkpoints):
    """The committed page, newly opened in a window of desktop size."""
    resize(browser, 1400, 900)
    browser.get("about:blank")
    browser.get(PAGE.as_uri())
    WebDriverWait(browser, 20).until(lambda _: browser.find_element("id", "digit").text)
    yield browser
    assert not browser.get_log("browser")


def resize(page, width, height, scheme="light"):
    """Set the size of the page, of windows that are smaller than any, too, and light or dark."""
    metrics = {"width": width, "height": height, "deviceScaleFactor": 1, "mobile": False}
    page.execute_cdp_cmd("Emulation.setDeviceMetricsOverride", metrics)
    features = [{"name": "prefers-color-scheme", "value": scheme}]
    page.execute_cdp_cmd("Emulation.setEmulatedMedia", {"features": features})


def find(page, name):
    return page.find_element("id", name)


def drawn(page):
    """Wait until the page has drawn what was requested."""
    page.execute_async_script("requestAnimationFrame(() => setTimeout(arguments[0]))")


def decoded(page):
    drawn(page)
    return find(page, "place").text, picture(page, "decoded").mean().round(4)


def picture(page, canvas):
    """Return the pixels of a canvas, (height, width, 3) in [0, 1]."""
    url = page.execute_script("return element(arguments[0]).toDataURL()", canvas)
    png = base64.b64decode(url.partition(",")[2])
    with Image.open(io.BytesIO(png)) as file:
        return np.array(file.convert("RGB")) / 255


def assert_shown(page, canvas, image):
    """Compare a canvas, whose image is enlarged, with an image `(1, 32, 32)`."""
    found = picture(page, canvas)[..., 0]
    factor = len(found) // 32
    found = found.reshape(32, factor, 32, factor).mean(axis=(1, 3))
    assert np.abs(found - image[0].clamp(0, 1).numpy()).mean() < 0.015, canvas


def place_of(page, latent):
    """Return the column and row of a canvas's pixel where a latent is, in the whole plane."""
    size = len(picture(page, "scatter"))
    low, high = np.transpose(page.execute_script("return limits()"))
    x, y = (np.array(latent) - low) / (high - low) * size
    return x, size - y


def content_of(path=PAGE):
    text = path.read_text(encoding="utf-8")
    return json.loads(re.search(r'id="content">(.*?)</script>', text)[1])


def numbers(text):
    return np.frombuffer(base64.b64decode(text), "<f2").astype(float)


def lonely(page, latents, labels):
    """Return a dot of each digit that no other one touches, near the middle of its image."""
    pixel = np.diff(page.execute_script("return limits()")[0])[0] / len(picture(page, "scatter"))
    for digit in range(10):
        for i in np.flatnonzero(labels == digit):
            if np.partition(np.hypot(*(latents - latents[i]).T), 1)[1] > 6 * pixel:
                yield digit, latents[i]
                break


def network(name):
    """Return a model with its weights rounded to half precision, as those of the page are."""
    return load_model(name).half().float()


@pytest.mark.slow
def test_the_page_is_built_from_the_checkpoints(out, few_digits):
    explorer.main(["--dataset=digits", f"--out={out}"])
    content = content_of(*out.rglob("explorer.html"))
    labels, x = few_digits.labels_test, few_digits.x_clean_test
    assert list(base64.b64decode(content["labels"])) == labels.tolist()
    for name, model in PLANES:
        h = predict(load_model(model, out).encode, x)
        found = numbers(content["planes"][name]["latents"])
        assert found == pytest.approx(h.flatten().tolist(), abs=1e-2, rel=1e-3)
    error = (predict(load_model("vae16", out).reconstruct, x) - x).square().mean(dim=(1, 2, 3))
    assert content["errors"][::100] == pytest.approx([error.min().item(), error.max().item()])
    examples = content["examples"]
    assert examples["labels"] == few_digits.labels_example.tolist()
    expected = few_digits.x_noisy_example.flatten().tolist()
    assert numbers(examples["noisy"]) == pytest.approx(expected, abs=2e-3)
    with Image.open(io.BytesIO(base64.b64decode(content["images"].partition(",")[2]))) as file:
        seen = torch.from_numpy(np.array(file)).view(-1, 1, 32, 32) / 255.0
    torch.testing.assert_close(seen, x[content["shown"]], atol=0.003, rtol=0)
    assert sorted(content["shown"]) == list(range(360)), "all are shown where there are fewer"


def test_the_page_starts_at_a_clear_digit_and_its_images_cover_both_planes():
    content = content_of()
    assert len(set(content["shown"])) == explorer.SHOWN
    for name, model in PLANES:
        plane = content["planes"][name]
        latents = torch.from_numpy(numbers(plane["latents"])).float().view(-1, 2)
        start = torch.tensor([plane["start"]])
        logits = load_model("classifier")(load_model(model).decode(start))
        assert logits.softmax(dim=1).max() > 0.9
        extent = (latents.amax(dim=0) - latents.amin(dim=0)).max()
        gap = torch.cdist(latents, latents[content["shown"]]).amin(dim=1)
        assert gap.max() < extent / 20
        assert torch.cdist(start, torch.tensor([*plane["names"].values()])).min() > 0.035 * extent


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


def test_the_networks_of_the_page_are_those_of_pytorch(page, mnist):
    x, close = mnist.x_clean_test[:20], {"atol": TOLERANCE, "rtol": TOLERANCE}
    expected = predict(network("classifier"), x)
    torch.testing.assert_close(outputs(page, "classifier", x), expected, **close)
    torch.manual_seed(0)
    for name, model, size in (*((*plane, 2) for plane in PLANES), ("vae16", "vae16", 16)):
        found, z = network(model), 4 * torch.rand(20, size) - 2 * (name != "autoencoder")
        encode = getattr(found.encoder, "layers", found.encoder)
        for part, run, inputs in (("encoder", encode, x), ("decoder", found.decode, z)):
            expected = predict(run, inputs).flatten(1)
            torch.testing.assert_close(outputs(page, f"{name}, {part}", inputs), expected, **close)


def draw(page, *corners):
    """Draw a line through places of the field, in shares of its size from the center."""
    field = find(page, "draw")
    places = [[round(share * field.size["width"]) for share in corner] for corner in corners]
    chain = ActionChains(page, duration=20).move_to_element_with_offset(field, *places[0])
    chain.click_and_hold()
    for x, y in places[1:]:
        chain.move_to_element_with_offset(field, x, y)
    chain.release().perform()
    drawn(page)


SEVEN = [(-0.25, -0.3), (0.2, -0.3), (-0.05, 0.35)]


def test_a_drawn_seven_is_read_decoded_and_marked_where_its_latents_are(page, tmp_path):
    read, clear = find(page, "read"), find(page, "clear")
    tops = "return [...document.querySelectorAll('body *')].map((e) => e.getBoundingClientRect().y)"
    assert read.text == "draw your own"
    assert picture(page, "draw").mean() > 0.05, "no example in the field"
    before = page.execute_script(tops)
    draw(page, *SEVEN)
    assert read.text == "read as a 7"
    assert page.execute_script(tops) == before, "something moved"
    bars = page.find_elements("css selector", "#probabilities b")
    assert sum(float(bar.text.rstrip(" %")) for bar in bars) == pytest.approx(100, abs=3)
    # The same preparation as `load_image`.
    Image.fromarray(np.uint8(255 * picture(page, "draw"))).save(tmp_path / "drawn.png")
    found = page.execute_script("return Array.from(prepare(gray(), field.width))")
    x = load_image(tmp_path / "drawn.png")
    assert found == pytest.approx(x.flatten().tolist(), abs=TOLERANCE)
    assert_shown(page, "prepared", x[0])
    for name, model in (*PLANES, ("vae16", "vae16")):
        assert_shown(page, f"by-{name}", predict(network(model).reconstruct, x)[0])
    for tab, model in PLANES:
        find(page, f"tab-{tab}").click()
        drawn(page)
        yellow = np.abs(picture(page, "scatter") - (1, 212 / 255, 0)).max(axis=2) < 0.02
        row, column = np.argwhere(yellow).mean(axis=0)
        h = network(model).encode(x)[0].tolist()
        assert (column, row) == pytest.approx(place_of(page, h), abs=3), tab
    clear.click()
    assert page.execute_script("return [prepare(gray(), 280), plane.own]") == [None, None]
    assert read.text == "draw your own"


def test_what_is_no_digit_is_said_to_be_none(page):
    draw(page, *[(0.4 * (-1) ** i, 0.4 - 0.16 * (i // 2)) for i in range(12)])
    assert "unlike any digit" in find(page, "read").text
    assert re.search(r"larger than that of (99|100) %", find(page, "error").text)


def test_hovering_previews_and_a_click_or_dragging_places_the_point(page):
    start, plane = decoded(page), find(page, "scatter")
    ActionChains(page).move_to_element_with_offset(plane, -100, 100).perform()
    hovered = decoded(page)
    assert hovered != start
    ActionChains(page).move_to_element(find(page, "legend")).perform()
    assert decoded(page) == start
    ActionChains(page).move_to_element_with_offset(plane, -100, 100).click().perform()
    assert decoded(page) == hovered
    drag = ActionChains(page).click_and_hold().move_by_offset(60, -40).release()
    drag.move_to_element(find(page, "legend")).perform()
    dragged = decoded(page)
    plane.send_keys(Keys.ARROW_RIGHT, Keys.ARROW_UP)
    assert len({start, hovered, dragged, decoded(page)}) == 4
    assert page.execute_script("return plane.pins.length") == 0


def test_a_finger_places_the_point_and_taps_lock_nothing(page):
    seen = {decoded(page)}
    for moves in ([(-80, 90), (60, 20)], [(10, 10)], [(40, 10)], [(70, 10)]):
        touch = ActionBuilder(page, mouse=PointerInput(interaction.POINTER_TOUCH, "finger"))
        action = touch.pointer_action.move_to(find(page, "scatter"), *moves[0]).pointer_down()
        for move in moves[1:]:
            action = action.move_to(find(page, "scatter"), *move)
        action.pointer_up()
        touch.perform()
        seen.add(decoded(page))
    assert len(seen) == 5
    assert not find(page, "walk").is_displayed()


def test_the_image_shown_is_that_of_the_nearest_latent_and_its_dot_is_ringed(page, mnist):
    content = content_of()
    shown = content["shown"]
    latents = numbers(content["planes"]["vae"]["latents"]).reshape(-1, 2)[shown]
    # A point where the sum or the larger of the distances along both axes finds others.
    for point in np.random.default_rng(0).uniform(-2, 2, (999, 2)):
        apart = np.abs(latents - point)
        nearest = np.hypot(*apart.T).argmin()
        if nearest not in (apart.sum(axis=1).argmin(), apart.max(axis=1).argmin()):
            break
    page.execute_script(f"location.hash = '#vae/{point[0]:.4f},{point[1]:.4f}'")
    drawn(page)
    image = shown[nearest]
    WebDriverWait(page, 10).until(lambda _: page.execute_script("return plane.name") == "vae")
    drawn(page)
    assert find(page, "digit").text[-1] == str(mnist.labels_test[image].item())
    assert_shown(page, "nearest", mnist.x_clean_test[image])
    assert page.execute_script("return plane.ring") == pytest.approx(list(latents[nearest]))
    assert_shown(page, "decoded", network("vae2").decode(torch.tensor(point).float()[None])[0])


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_dot_has_the_color_of_its_digit_in_the_legend(page, mnist, scheme):
    resize(page, 1400, 900, scheme)
    find(page, "tab-vae").click()
    drawn(page)
    seen, found = picture(page, "scatter"), []
    behind = seen[5, len(seen) // 3]
    legend = page.find_elements("css selector", "#legend i")
    latents = numbers(content_of()["planes"]["vae"]["latents"]).reshape(-1, 2)
    for digit, latent in lonely(page, latents, mnist.labels_test.numpy()):
        column, row = (round(v) for v in place_of(page, latent))
        rgb = re.findall(r"[\d.]+", legend[digit].value_of_css_property("background-color"))
        color = np.array(rgb[:3], float) / (255 if scheme == "light" else 1)  # mixed with white
        if scheme == "light":
            assert color == pytest.approx(np.array(to_rgb(DIGIT_COLORS[digit])), abs=0.01)
        patch = seen[row - 2 : row + 3, column - 2 : column + 3].reshape(-1, 3)
        found.append(np.abs(patch - (0.7 * color + 0.3 * behind)).max(axis=1).min() < 0.05)
    assert len(found) >= 8
    assert all(found)


def test_the_circles_hold_their_shares_and_half_planes_without_images_are_gray(page):
    column, row = place_of(page, [2, -0.6])
    outside = picture(page, "scatter")[round(row), round(column)]
    assert outside == pytest.approx(0xE8 / 255, abs=0.01)
    assert not find(page, "prior").is_displayed()
    find(page, "tab-vae").click()
    drawn(page)
    assert "50, 90 and 99 %" in find(page, "prior").text
    seen = picture(page, "scatter")
    for radius in PRIOR_RADII.values():
        dark = 0
        for angle in np.linspace(0, 6, 40):
            x, y = place_of(page, [radius * np.cos(angle), radius * np.sin(angle)])
            patch = seen[round(y) - 1 : round(y) + 2, round(x) - 1 : round(x) + 2]
            dark += patch.max(axis=2).min() < 0.45
        assert dark > 30, f"no circle of radius {radius:.2f}"


def test_pins_by_a_button_a_key_or_a_click_make_a_line_that_lets_go(page):
    plane, walk = find(page, "scatter"), find(page, "walk")
    button, slider = (find(page, name) for name in ("pin", "line"))

    def at(x, y):
        return ActionChains(page).move_to_element_with_offset(plane, x, y)

    for x, y in ((-150, -150), (120, 120)):
        assert not slider.is_displayed()
        at(x, y).click().perform()
        button.click()
    drawn(page)
    assert "stays on the line" in walk.text
    at_the_end = decoded(page)
    slider.send_keys(Keys.HOME)
    assert decoded(page) != at_the_end
    # The nearest place of the line from (-150, -150) to (120, 120).
    at(75, -105).click().perform()
    drawn(page)
    assert float(slider.get_property("value")) == pytest.approx(0.5, abs=0.02)
    find(page, "release").click()
    drawn(page)
    assert not walk.is_displayed()
    for x in (-100, 100):
        at(x, 0).key_down(Keys.SHIFT).click().key_up(Keys.SHIFT).perform()
    drawn(page)
    assert walk.is_displayed()
    ActionChains(page).send_keys(Keys.ESCAPE).perform()
    plane.send_keys(Keys.ENTER, Keys.ARROW_LEFT, Keys.ENTER)
    drawn(page)
    assert walk.is_displayed()


def test_the_address_keeps_the_point_and_each_tab_its_pins(page):
    state = "return [plane.name, plane.pins.length]"
    ActionChains(page).move_to_element_with_offset(find(page, "scatter"), 40, 40).click().perform()
    find(page, "pin").click()
    drawn(page)
    where = find(page, "place").text
    find(page, "tab-autoencoder").send_keys(Keys.ARROW_RIGHT)
    assert page.execute_script(state) == ["vae", 0]
    sample, seen = find(page, "sample"), set()
    for _ in range(3):
        sample.click()
        seen.add(decoded(page))
    assert len(seen) == 3, "the prior is not sampled"
    page.switch_to.active_element.send_keys(Keys.TAB)
    find(page, "tab-vae").send_keys(Keys.ARROW_LEFT)
    assert page.execute_script(state) == ["autoencoder", 1]
    assert find(page, "place").text == where
    assert not sample.is_displayed()
    WebDriverWait(page, 10).until(lambda _: where[1:-1].replace(" ", "") in page.current_url)
    address = page.current_url
    page.get("about:blank")
    page.get(address)
    WebDriverWait(page, 20).until(lambda _: find(page, "digit").text)
    assert find(page, "place").text == where
    page.execute_script("location.hash = '#vae/900,1'")  # as typed; it stays in the plane
    WebDriverWait(page, 10).until(lambda _: page.execute_script("return plane.name") == "vae")
    assert page.execute_script("return plane.here[0] <= limits()[0][1] && plane.here[1] === 1")


def test_a_polite_live_region_says_the_position_and_the_digit(page):
    live = find(page, "live")
    assert live.get_attribute("aria-live") == "polite"
    find(page, "scatter").send_keys(Keys.ARROW_RIGHT)
    drawn(page)
    a, b = find(page, "place").text[1:-1].split(", ")
    said = f"h1 {a}, h2 {b}, near {find(page, 'digit').text}"
    WebDriverWait(page, 10).until(lambda _: live.get_property("textContent") == said)
    draw(page, *SEVEN)
    assert live.get_property("textContent") == "read as a 7, 100 %"


def denoised(page, name):
    """Choose an image of the Denoising tab; return its last loss when the steps have ended."""
    buttons = page.find_elements("css selector", "#examples button")
    next(button for button in buttons if button.text == name).click()
    WebDriverWait(page, 60).until(lambda _: find(page, "play").is_enabled())
    return float(find(page, "loss").text)


def psnr_of(page, name):
    return float(find(page, f"{name}-note").text.split()[-2])


def test_the_estimates_of_the_examples_end_where_those_of_pytorch_do(page, mnist):
    find(page, "tab-denoising").click()
    vae, x_noisy, x_clean = network("vae16"), mnist.x_noisy_example, mnist.x_clean_example
    z_init = predict(vae.encode, x_noisy)
    *_, losses = map_estimate(vae.decode, x_noisy, 16, 0.0625, z_init, iterations=400)
    for digit, loss in enumerate(losses[-1].tolist()):
        found = denoised(page, str(digit))
        assert found == pytest.approx(loss, abs=0.05), digit
        through = predict(vae.reconstruct, x_noisy)
        for name, x in (("noisy", x_noisy), ("output", through)):
            expected = psnr(x[digit], x_clean[digit])
            assert psnr_of(page, name) == pytest.approx(expected, abs=0.1), (digit, name)
    assert_shown(page, "output", through[digit])
    slider, iteration = (find(page, name) for name in ("frames", "iteration"))
    last, curve = iteration.text, picture(page, "curve")
    slider.send_keys(Keys.HOME)
    assert iteration.text == "0"
    assert float(find(page, "loss").text) > found
    assert np.array_equal(picture(page, "estimate"), picture(page, "output"))
    assert not np.array_equal(picture(page, "curve"), curve)
    find(page, "play").click()
    WebDriverWait(page, 20).until(lambda _: iteration.text == last)


def test_the_own_digit_is_denoised_with_noise_of_any_strength(page):
    draw(page, *SEVEN)
    x = torch.tensor(page.execute_script("return Array.from(prepare(gray(), field.width))"))
    find(page, "tab-denoising").click()
    denoised(page, "your digit")
    assert_shown(page, "clean", x.view(1, 32, 32))
    weak = psnr_of(page, "noisy")
    assert weak == pytest.approx(12, abs=0.5)
    assert psnr_of(page, "estimate") > 18
    find(page, "noise").send_keys(Keys.ARROW_RIGHT)
    assert find(page, "deviation").text == "0.30"
    assert find(page, "beta").text == "0.0900"
    expected = weak - 20 * np.log10(0.3 / 0.25)
    assert psnr_of(page, "noisy") == pytest.approx(expected, abs=0.1)


@pytest.mark.parametrize("size", [(1920, 1080), (1400, 900), (800, 600), (844, 390), (390, 844)])
def test_every_size_shows_the_image_beside_the_plane_and_targets_for_fingers(page, size):
    resize(page, *size)
    for tab in ("denoising", "autoencoder"):
        find(page, f"tab-{tab}").click()
        drawn(page)
        assert page.execute_script("return document.documentElement.scrollWidth") <= size[0]
        for target in page.find_elements("css selector", "button, input"):
            assert not target.is_displayed() or target.size["height"] >= 44, target.text
    plane, image = (find(page, name).rect for name in ("scatter", "decoded"))
    assert 230 < plane["height"] == plane["width"]
    beside = image["x"] > plane["x"] + plane["width"] and image["y"] < plane["y"] + 20
    above = image["y"] + image["height"] < plane["y"] > plane["y"] + plane["height"] - size[1]
    assert beside or above
    if size[1] >= 844:  # the first screen
        assert plane["y"] + plane["height"] < size[1]
