from django.apps import AppConfig


class Agents(AppConfig):
    name = "agentauth.agents"
