# The gateway: no torch, no CUDA, no root.
FROM python:3.12-slim-bookworm
ENV PYTHONDONTWRITEBYTECODE=1 PYTHONUNBUFFERED=1
COPY --chmod=755 requirements/gateway.lock /app/requirements/
RUN python3 -m pip install --no-cache-dir -r /app/requirements/gateway.lock
COPY --chmod=755 gateway /app/gateway
COPY --chmod=755 deploy/healthy.py /app/deploy/
USER 1000:1000
WORKDIR /app
CMD ["python3", "-m", "gateway"]
