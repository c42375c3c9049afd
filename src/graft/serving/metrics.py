"""Metrics for Prometheus."""

from graft.serving.service import Service
from graft.serving.web import CollectorRegistry, Counter, Gauge, Histogram, ProcessCollector, generate_latest

SECONDS = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
IMAGES = (1, 2, 4, 8, 16, 32, 64, 128)


class Metrics:
    """Counts of requests, images and batches, in a registry of their own."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        ProcessCollector(registry=self.registry)
        self._requests = Counter("graft_requests", "Requests.", ("route", "status"), registry=self.registry)
        self._seconds = Histogram(
            "graft_request_seconds",
            "Seconds from the head of a request to the end of its answer.",
            ("route",),
            buckets=SECONDS,
            registry=self.registry,
        )
        self._images = Counter("graft_images", "Images answered.", ("outcome",), registry=self.registry)
        self._batch = Histogram("graft_batch_images", "Images per batch.", buckets=IMAGES, registry=self.registry)
        self._batch_seconds = Histogram(
            "graft_batch_seconds", "Seconds per batch.", buckets=SECONDS, registry=self.registry
        )

    def watch(self, service: Service) -> None:
        """Report the state of a service whenever the metrics are read."""
        states = {
            "graft_waiting_images": ("Images that wait for a worker.", lambda: service.pool.queue.unanswered),
            "graft_workers": ("Workers that can answer.", lambda: service.pool.alive),
            "graft_worker_restarts": ("Workers started again since the last reload.", lambda: service.pool.restarts),
            "graft_reloads": ("Models that replaced another.", lambda: service.reloads),
            "graft_ready": ("Whether the service is ready, 0 or 1.", lambda: int(service.ready)),
        }
        for name, (what, read) in states.items():
            Gauge(name, what, registry=self.registry).set_function(read)

    def batch(self, images: int, seconds: float) -> None:
        self._batch.observe(images)
        self._batch_seconds.observe(seconds)

    def images(self, answered: int, failed: int) -> None:
        self._images.labels("answered").inc(answered)
        self._images.labels("undecodable").inc(failed)

    def request(self, route: str, status: int, seconds: float) -> None:
        self._requests.labels(route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self) -> bytes:
        """Return all metrics in Prometheus' text format."""
        return generate_latest(self.registry)
