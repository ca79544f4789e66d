"""Where Alertmanager's webhook leads (monitoring/alertmanager.yml): a line on standard output for each alert.

Put the receiver of your own into monitoring/alertmanager.yml, and this one is not needed.
"""

import json
import signal
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer


class Receiver(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        posted = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        for alert in posted["alerts"]:
            summary = alert["annotations"].get("summary", "")
            print(alert["status"], alert["labels"]["alertname"], summary, sep="\t", flush=True)
        self.send_response(204)
        self.end_headers()

    def do_GET(self) -> None:
        self.send_response(204)  # for the health check
        self.end_headers()

    def log_message(self, format: str, *args: object) -> None:
        """Nothing: the alerts are the log."""


signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
ThreadingHTTPServer(("", 5001), Receiver).serve_forever()
