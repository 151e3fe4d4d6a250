"""Device ``browser``: onnxruntime-web in headless Chromium.

``package`` finds the npm package, ``server`` serves its files and ours on loopback, ``chromium`` starts the browser and
speaks with it, ``page`` loads models and times them in ``page.mjs``, and ``device`` makes a ``Device`` of all that.
"""

from latency_tables.browser.device import Browser, BrowserSession

__all__ = ["Browser", "BrowserSession"]
