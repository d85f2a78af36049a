from django.apps import AppConfig


class OAuth(AppConfig):
    name = "agentauth.oauth"
