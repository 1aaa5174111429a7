"""The pages of the real program."""

import http.client
from urllib.parse import urlsplit

from service.demo.processes import service_process
from tests.support.browser import BROWSER, Html


def test_where_tls_ends_before_the_service_commands_have_the_https_address(emulator: str, bucket: str) -> None:
    settings = {"INPUT_FOLDER": f"gs://{bucket}/in", "STORAGE_EMULATOR_HOST": emulator}
    headers = BROWSER | {"Host": "thumbnails-abc.a.run.app", "X-Forwarded-Proto": "https"}
    with service_process(settings) as service:
        # From an address that uvicorn does not trust by itself, as Cloud Run's proxy has one.
        connection = http.client.HTTPConnection(
            urlsplit(service.url).netloc, timeout=20, source_address=("127.0.0.2", 0)
        )
        try:
            connection.request("GET", "/", headers=headers)
            page = Html(connection.getresponse().read().decode())
        finally:
            connection.close()
    header = '-H "Authorization: Bearer $(gcloud auth print-identity-token)"'
    assert f"curl https://thumbnails-abc.a.run.app/runs {header}" in [one.text for one in page.all("pre")]
