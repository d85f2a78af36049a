from django.apps import AppConfig


class Tenants(AppConfig):
    name = "tenants"
