# syntax=docker/dockerfile:1
# The gateway: no torch, no CUDA, no root.
FROM python:3.12-slim-bookworm
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY requirements/gateway.lock /app/requirements/
RUN python3 -m pip install --no-cache-dir -r /app/requirements/gateway.lock
COPY gateway /app/gateway
COPY deploy/healthy.py /app/deploy/
USER 1000:1000
WORKDIR /app
CMD ["python3", "-m", "gateway"]
