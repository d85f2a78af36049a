from django.apps import AppConfig


class Resources(AppConfig):
    name = "agentauth.resources"
