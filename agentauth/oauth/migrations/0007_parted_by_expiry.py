from django.db import migrations, models

from agentauth.oauth.partitions import part_all

_UNIQUE = {
    "authorizationcode": {"one_code_per_hash": ("tenant", "code_hash", "expires_at")},
    "backchannelrequest": {"one_backchannel_request": ("tenant", "auth_req_hash", "expires_at")},
    "devicerequest": {
        "one_device_request_per_hash": ("tenant", "device_hash", "expires_at"),
        "one_device_request_per_user_code": ("tenant", "user_hash", "expires_at"),
    },
    "pushedrequest": {"one_pushed_request_per_hash": ("tenant", "uri_hash", "created_at")},
    "refreshtoken": {"one_refresh_token_per_hash": ("tenant", "token_hash", "family_expires_at")},
    "spentonce": {"spent_only_once": ("tenant", "kind", "value_hash", "expires_at")},
}
_NEEDED_NO_MORE = {
    "authorizationcode": "oauth_autho_expires_9bd032_idx",
    "backchannelrequest": "oauth_backc_expires_9b94b9_idx",
    "devicerequest": "oauth_devic_expires_f34e9c_idx",
    "pushedrequest": "oauth_pushe_expires_4342aa_idx",
    "spentonce": "oauth_spent_expires_f9ed56_idx",
}


class Migration(migrations.Migration):
    dependencies = [("oauth", "0006_what_the_server_grows_by")]

    operations = [
        migrations.SeparateDatabaseAndState(
            state_operations=[
                *(
                    operation
                    for model, named in _UNIQUE.items()
                    for name, fields in named.items()
                    for operation in (
                        migrations.RemoveConstraint(model_name=model, name=name),
                        migrations.AddConstraint(
                            model_name=model, constraint=models.UniqueConstraint(fields=fields, name=name)
                        ),
                    )
                ),
                *(migrations.RemoveIndex(model_name=model, name=name) for model, name in _NEEDED_NO_MORE.items()),
            ]
        ),
        migrations.RunPython(part_all, elidable=False),
    ]
