from django.apps import AppConfig


class Audit(AppConfig):
    name = "audit"

    def ready(self) -> None:
        # Tasks go to the queue that is set up there; without it, in a web process, they would go nowhere
        import agentauth.celery  # noqa: F401
