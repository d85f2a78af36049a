"""Who may act: Agent, its credentials, its badge. An agent is an OAuth client with a name, a purpose and an owner.

What an agent was allowed is in `grants/`; how it proves itself on the wire is in `oauth/`.
"""
