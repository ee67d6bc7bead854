"""A browser plays the animations of `join_frames`, and that of the README."""

import pytest
from playwright.sync_api import Page

from tests.support.animated_picture import Frame, join_frames
from tests.support.browser_fixtures import running_browser
from tests.support.draw_pictures import ADDING, ADDING_SIZE, DEVICE_SCALE_FACTOR, END

SIZE = {"width": 60, "height": 40}
RED, BLUE = [255, 0, 0], [0, 0, 255]
# Decodes each frame in the browser; returns its milliseconds and the colors of two pixels.
PLAY = """async bytes => {
  const decoder = new ImageDecoder({ data: new Uint8Array(bytes), type: "image/png" });
  await decoder.tracks.ready;
  const { frameCount, repetitionCount } = decoder.tracks.selectedTrack;
  const frames = [];
  for (let frameIndex = 0; frameIndex < frameCount; frameIndex += 1) {
    const { image } = await decoder.decode({ frameIndex });
    const { displayWidth: width, displayHeight: height, duration } = image;
    const canvas = new OffscreenCanvas(width, height).getContext("2d");
    canvas.drawImage(image, 0, 0);
    const color = (x, y) => [...canvas.getImageData(x, y, 1, 1).data].slice(0, 3);
    frames.push([duration / 1000, width, height, color(5, 5), color(width - 5, height - 5)]);
  }
  return [repetitionCount, frames];
}"""


def play(page: Page, picture: bytes) -> tuple[float, list[list[object]]]:
    page.route("**/*", lambda route: route.fulfill(body="", content_type="text/html"))
    page.goto("http://127.0.0.1/")  # a secure context, which ImageDecoder needs
    repetitions, frames = page.evaluate(PLAY, [*picture])
    return repetitions, frames


def test_a_browser_shows_the_frames_in_their_places_again_and_again() -> None:
    with running_browser() as browser:
        page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]  # a dict with its two keys
        page.set_content("<style>html { background: rgb(255 0 0) }</style>")
        red = page.screenshot()
        page.set_content("<style>html { background: rgb(0 0 255) }</style>")
        corner = page.screenshot(clip={"x": 0, "y": 0, "width": 30, "height": 20})
        picture = join_frames([Frame(red, 1500), Frame(corner, 80, 30, 20), Frame(corner, 90)])
        repetitions, frames = play(page, picture)
    assert repetitions is None or repetitions == float("inf")
    assert frames == [
        [1500, 60, 40, RED, RED],
        [80, 60, 40, RED, BLUE],
        [90, 60, 40, BLUE, BLUE],
    ]


def test_frames_of_another_kind_are_refused() -> None:
    with running_browser() as browser:
        page = browser.new_page(viewport=SIZE)  # type: ignore[arg-type]  # a dict with its two keys
        opaque = page.screenshot()
        transparent = page.screenshot(omit_background=True)
    with pytest.raises(ValueError, match="differ in their kind of colors"):
        join_frames([Frame(opaque, 1), Frame(transparent, 1)])


def test_the_picture_of_the_readme_is_played_for_some_seconds() -> None:
    with running_browser() as browser:
        _, frames = play(browser.new_page(), ADDING.read_bytes())
    assert {(frame[1], frame[2]) for frame in frames} == {
        (ADDING_SIZE[0] * DEVICE_SCALE_FACTOR, ADDING_SIZE[1] * DEVICE_SCALE_FACTOR)
    }
    assert frames[-1][0] == END
    assert 5000 < sum(float(str(frame[0])) for frame in frames) < 15_000
