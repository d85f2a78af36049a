from django.apps import AppConfig


class Embedded(AppConfig):
    name = "agentauth.embedded"
