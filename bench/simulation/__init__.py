"""Replicas of the batcher behind a balancer, as events of simulated time: fleets that cannot run here."""
