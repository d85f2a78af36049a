"""The clock and the queue: exports, sweeps and tidying. Tasks are idempotent and name themselves as the actor."""

import os

from celery import Celery

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "agentauth.settings")

app = Celery("agentauth")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["audit", "audit.export", "agentauth.grants", "agentauth.keys", "agentauth.oauth"])
app.autodiscover_tasks(["agentauth.oauth"], related_name="ping")
app.conf.beat_schedule = {
    "sweep-expired-grants": {"task": "agentauth.grants.tasks.sweep_expired", "schedule": 60.0},
    "retire-unused-agents": {"task": "agentauth.grants.tasks.retire_unused", "schedule": 3600.0},
    "sweep-spent": {"task": "agentauth.oauth.tasks.sweep_spent", "schedule": 900.0},
    "ping-again": {"task": "agentauth.oauth.ping.ping_again", "schedule": 15.0},
    "close-lost-calls": {"task": "audit.tasks.close_lost_calls", "schedule": 30.0},
    "rotate-keys": {"task": "agentauth.keys.tasks.rotate_due", "schedule": 3600.0},
    # What happened while no clock was running
    "close-calls-lost-long-ago": {
        "task": "audit.tasks.close_lost_calls",
        "schedule": 3600.0,
        "kwargs": {"hours": 24.0 * 31},
    },
    "remove-expired-exports": {"task": "audit.export.tasks.remove_expired", "schedule": 3600.0},
    "resume-exports": {"task": "audit.export.tasks.resume_stalled", "schedule": 15.0},
}
