"""A TLS server for tools/image/rootfs: plays AWS and a registry, and writes a line for each request that TLS let through.

    tls.py CERTIFICATE KEY LOG     prints its port
"""

import hashlib
import http.server
import json
import ssl
import sys

CERTIFICATE, KEY, LOG = sys.argv[1:]
MANIFEST = json.dumps({
    "schemaVersion": 2, "mediaType": "application/vnd.oci.image.manifest.v1+json", "layers": [],
    "config": {"mediaType": "application/vnd.oci.image.config.v1+json", "size": 2,
               "digest": "sha256:" + hashlib.sha256(b"{}").hexdigest()},
}).encode()


class Answers(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self, status, body, kind, **headers):
        with open(LOG, "a") as log:
            print(self.command, self.path, self.headers.get("X-Amz-Target", ""), file=log)
        self.send_response(status)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        for name, value in headers.items():
            self.send_header(name.replace("_", "-"), value)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def do_GET(self):
        digest = "sha256:" + hashlib.sha256(MANIFEST).hexdigest()
        self.answer(200, MANIFEST, "application/vnd.oci.image.manifest.v1+json", Docker_Content_Digest=digest)

    do_HEAD = do_GET

    def do_POST(self):
        self.rfile.read(int(self.headers.get("Content-Length", 0)))
        # No repository is there: a dry run needs no more.
        body = json.dumps({"__type": "RepositoryNotFoundException", "message": "not there"}).encode()
        self.answer(400, body, "application/x-amz-json-1.1")

    def log_message(self, *_):
        pass


class Server(http.server.ThreadingHTTPServer):
    def handle_error(self, *_):
        """A client that does not trust us breaks off: that is what is tried."""


server = Server(("127.0.0.1", 0), Answers)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain(CERTIFICATE, KEY)
# The handshake is the handler's thread's: one that is refused must not end the server.
server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
print(server.server_port, flush=True)
server.serve_forever()
