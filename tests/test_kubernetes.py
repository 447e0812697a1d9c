"""A sweep handed to Kubernetes, as far as that goes without one: an API server of our own keeps the jobs that it is
sent and runs the command of each as a process in an empty folder, as a pod would.
"""

import json
import os
import shutil
import subprocess
import tempfile
import threading
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
import yaml
from checkout import ROOT, Checkout

pytestmark = [
    pytest.mark.study,
    pytest.mark.skipif(not shutil.which("rsync"), reason="the storage plugin copies by rsync, which is not installed"),
]


class Cluster:
    """The jobs that were sent, and what became of them."""

    def __init__(self, folder):
        self.folder, self.jobs, self.ended, self.outputs = folder, {}, {}, []

    def run(self, job):
        """Run a job's command in a folder of its own."""
        (container,) = job["spec"]["template"]["spec"]["containers"]
        workdir = tempfile.mkdtemp(dir=self.folder)
        # What the image brings along is here already.
        command = container["args"][-1].partition(" && ")[2]
        environment = self.environment | {"KUBERNETES_SERVICE_HOST": "127.0.0.1"}
        done = subprocess.run(
            [*container["command"], "-c", command],
            cwd=workdir,
            env=environment,
            capture_output=True,
            text=True,
            check=False,
        )
        self.outputs.append(done.stdout + done.stderr)
        self.ended[job["metadata"]["name"]] = done.returncode

    def status(self, name):
        """What the API says of a job."""
        if name not in self.ended:
            return {"active": 1}
        if self.ended[name] == 0:
            return {"succeeded": 1, "conditions": [{"type": "Complete", "status": "True"}]}
        return {"failed": 1, "conditions": [{"type": "Failed", "status": "True", "reason": "it exited"}]}


def handler(cluster):
    class Api(BaseHTTPRequestHandler):
        def do_POST(self):
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            if self.path.endswith("/jobs"):
                cluster.jobs[body["metadata"]["name"]] = body
                threading.Thread(target=cluster.run, args=(body,), daemon=True).start()
            self.answer(body, 201)

        def do_GET(self):
            name = self.path.partition("/jobs/")[2].partition("/")[0].partition("?")[0]
            if name in cluster.jobs:
                self.answer(cluster.jobs[name] | {"status": cluster.status(name)})
            else:
                self.answer({"kind": "PodList", "apiVersion": "v1", "metadata": {}, "items": []})

        def do_DELETE(self):
            self.answer({"kind": "Status", "apiVersion": "v1", "status": "Success"})

        def answer(self, body, status=200):
            data = json.dumps(body).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/json")
            self.send_header("Content-Length", str(len(data)))
            self.end_headers()
            self.wfile.write(data)

        def log_message(self, *_):
            pass

    return Api


@pytest.fixture(scope="module")
def cluster(tmp_path_factory):
    """Return the cluster after the first two stages of the smoke sweep, and the checkout."""
    folder = tmp_path_factory.mktemp("kubernetes")
    (folder / "checkout").mkdir()
    (folder / "pods").mkdir()
    cluster = Cluster(folder / "pods")
    server = ThreadingHTTPServer(("127.0.0.1", 0), handler(cluster))
    threading.Thread(target=server.serve_forever, daemon=True).start()
    config = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "none", "cluster": {"server": f"http://127.0.0.1:{server.server_port}"}}],
        "users": [{"name": "nobody", "user": {}}],
        "contexts": [{"name": "none", "context": {"cluster": "none", "user": "nobody"}}],
        "current-context": "none",
    }
    (folder / "config").write_text(yaml.safe_dump(config), encoding="utf-8")
    checkout = Checkout(folder / "checkout")
    # What travels to a pod is what git tracks.
    for command in (["init", "-q"], ["add", "-A"]):
        subprocess.run(["git", *command], cwd=checkout.root, check=True)
    checkout.environment |= {"KUBECONFIG": str(folder / "config")}
    cluster.environment = os.environ | checkout.environment
    options = f"SNAKEMAKE_ARGS=--default-storage-prefix {checkout.root} --until noise --seconds-between-status-checks 1"
    done = checkout.make("sweep", "SWEEP=config/sweeps/smoke.yaml", "EXECUTOR=kubernetes", options)
    server.shutdown()
    server.server_close()
    assert done.returncode == 0, done.stderr[-4000:] + "".join(cluster.outputs)[-4000:]
    return cluster, checkout.root


def test_each_stage_is_a_job_of_its_own_and_leaves_its_results_in_the_checkout(cluster):
    cluster, root = cluster
    assert len(cluster.jobs) == 3
    assert set(cluster.ended.values()) == {0}
    made = sorted(path.parent.name.partition("-")[0] for path in (root / "runs/sweeps/smoke").glob("*/noise.json"))
    assert made == ["noise", "noise"]
    records = list((root / "runs/sweeps/smoke").glob("noise-*/provenance/*.json"))
    assert len(records) == 4  # data's, linked, and its own
    for record in records:
        assert json.loads(record.read_text())["job"].startswith("kubernetes ")


def test_a_jobs_cores_memory_image_and_volume_are_the_profiles(cluster):
    profile = yaml.safe_load((ROOT / "workflow/profiles/kubernetes/config.yaml").read_text(encoding="utf-8"))
    claim, path = profile["kubernetes-persistent-volumes"][0].split(":")
    for job in cluster[0].jobs.values():
        pod = job["spec"]["template"]["spec"]
        (container,) = pod["containers"]
        rule = "data" if "--allowed-rules data" in container["args"][-1] else "noise"
        assert container["image"] == profile["container-image"]
        assert container["resources"]["requests"]["memory"] == f"{profile['set-resources'][rule]['mem_mb']}M"
        # The plugin leaves a twentieth of each core to the node.
        assert container["resources"]["requests"]["cpu"] == f"{int(950 * profile['set-threads'][rule])}m"
        assert {"name": claim, "mountPath": path} in container["volumeMounts"]
        claims = [(volume.get("persistentVolumeClaim") or {}).get("claimName") for volume in pod["volumes"]]
        assert claim in claims
