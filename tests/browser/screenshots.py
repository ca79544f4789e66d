"""Makes the pictures in docs/images: two instances of a shop on a real Kafka, under load, looked at in Chromium.

PYTHONPATH=tests .venv/bin/python tests/browser/screenshots.py [SECONDS OF LOAD]
"""

from __future__ import annotations

import os
import random
import sys
import tempfile
import threading
import time
from pathlib import Path

import msgspec
from confluent_kafka import Producer
from playwright.sync_api import Browser, sync_playwright

from browser.shop import Order, app
from kstream.config import Settings
from kstream.devbroker import DevBroker
from support.page import ARGUMENTS
from support.running import until
from support.serving import Served

IMAGES = Path(__file__).parents[2] / "docs" / "images"


def feed(servers: str, ending: threading.Event) -> None:
    """Some thousand orders a second, in waves."""
    producer, chance, encoder = (
        Producer({"bootstrap.servers": servers, "linger.ms": 20, "partitioner": "murmur2_random"}),
        random.Random(1),
        msgspec.json,
    )
    while not ending.wait(0.1):
        rate = 2500 * (1.4 + chance.random() * 0.2 + ((time.time() / 25) % 1))
        for _ in range(int(rate / 10)):
            order = Order(f"c{chance.randrange(5000)}", f"p{chance.randrange(300)}", 995, chance.random() < 0.9)
            topic = "orders" if chance.random() < 0.93 else "returns"
            producer.produce(topic, encoder.encode(order), order.customer.encode())
        producer.poll(0)
    producer.flush(10)


def take(browser: Browser, served: Served, name: str, *, dark: bool = False) -> None:
    context = browser.new_context(
        viewport={"width": 1280, "height": 1090}, device_scale_factor=1.5, color_scheme="dark" if dark else "light"
    )
    page = context.new_page()
    page.goto(served.link())
    page.locator("#connection.live").wait_for()
    page.wait_for_function("document.querySelector('.rates text')?.textContent")
    page.screenshot(path=IMAGES / f"{name}.png")
    context.close()


def main(seconds: float) -> None:
    IMAGES.mkdir(exist_ok=True)
    os.environ["PYTHONPATH"] = str(Path(__file__).parents[1])  # the workers load the shop from there
    ending = threading.Event()
    with DevBroker() as broker, tempfile.TemporaryDirectory() as directory, sync_playwright() as running:
        instances = [
            Served(
                app,
                "browser.shop:app",
                Settings(
                    bootstrap_servers=broker.bootstrap_servers,
                    state_dir=f"{directory}/{name}",
                    instance=name,
                    system_metrics_interval=2,
                    announce_interval=2,
                    restart_initial=8,  # time enough for the picture of the kill
                ),
                workers=2,
            )
            for name in ("shop-a", "shop-b")
        ]
        feeding = threading.Thread(target=feed, args=(broker.bootstrap_servers, ending))
        try:
            for one in instances:
                until(lambda one=one: one.probe("ready")[0], "an instance to be ready", each=lambda: time.sleep(0.1))
            feeding.start()
            ending.wait(seconds)
            browser = running.chromium.launch(executable_path="/usr/bin/chromium", args=ARGUMENTS)
            take(browser, instances[0], "status-page")
            take(browser, instances[0], "status-page-dark", dark=True)
            os.kill(instances[0].pids[1], 9)
            until(lambda: not instances[0].probe("ready")[0], "the kill to be seen", each=lambda: time.sleep(0.02))
            take(browser, instances[0], "status-page-kill")
            browser.close()
        finally:
            ending.set()
            if feeding.ident:
                feeding.join()
            for one in instances:
                one.stop()


if __name__ == "__main__":
    main(float(sys.argv[1]) if len(sys.argv) > 1 else 120)
