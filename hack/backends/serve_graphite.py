"""Serves the render API of Graphite, by graphite-web itself, on a free port of this machine.

serve_graphite.py DIR writes the address to DIR/address once it answers. The series in it are of whisper, as carbon would write them:
app.errors has 7 for the last minutes, app.requests 100, and app.silent nothing.
"""

import os
import sys
import time
from wsgiref.simple_server import WSGIRequestHandler, make_server

import whisper

STEP, POINTS = 10, 360

data = os.path.abspath(sys.argv[1])
os.makedirs(os.path.join(data, "whisper", "app"), exist_ok=True)
os.makedirs(os.path.join(data, "log"), exist_ok=True)
now = int(time.time())
for name, value in {"errors": 7.0, "requests": 100.0, "silent": None}.items():
    path = os.path.join(data, "whisper", "app", name + ".wsp")
    whisper.create(path, [(STEP, POINTS)])
    if value is not None:
        whisper.update_many(path, [(now - STEP * i, value) for i in range(30)])

with open(os.path.join(data, "flagger_settings.py"), "w", encoding="utf-8") as settings:
    settings.write(f"""
SECRET_KEY = "of a test"
ALLOWED_HOSTS = ["*"]
STORAGE_DIR = CONF_DIR = {data!r}
WHISPER_DIR = {os.path.join(data, "whisper")!r}
LOG_DIR = {os.path.join(data, "log")!r}
DATABASES = {{"default": {{"ENGINE": "django.db.backends.sqlite3", "NAME": ":memory:"}}}}
""")
sys.path.insert(0, data)
os.environ["DJANGO_SETTINGS_MODULE"] = "graphite.settings"
os.environ["GRAPHITE_SETTINGS_MODULE"] = "flagger_settings"

import django  # noqa: E402
from django.core.wsgi import get_wsgi_application  # noqa: E402

django.setup()


class Quiet(WSGIRequestHandler):
    """The log of Graphite is enough."""

    def log_message(self, format, *args):
        pass


server = make_server("127.0.0.1", 0, get_wsgi_application(), handler_class=Quiet)
partial = os.path.join(data, "address.partial")
with open(partial, "w", encoding="utf-8") as address:
    address.write(f"http://127.0.0.1:{server.server_port}")
os.rename(partial, os.path.join(data, "address"))
server.serve_forever()
