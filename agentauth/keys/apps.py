from django.apps import AppConfig


class Keys(AppConfig):
    name = "agentauth.keys"
