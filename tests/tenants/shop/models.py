"""Rows of each tenant."""

from __future__ import annotations

from django.db import models


class Tag(models.Model):
    """A word for invoices."""

    word = models.CharField(max_length=50)


class Invoice(models.Model):
    """An invoice of one tenant."""

    text = models.CharField(max_length=50)
    room = models.CharField(max_length=20, default="main")
    tags = models.ManyToManyField(Tag)
    country = models.ForeignKey("common.Country", models.SET_NULL, null=True, blank=True, db_constraint=False)


class Line(models.Model):
    """A line of an invoice, which goes with it."""

    invoice = models.ForeignKey(Invoice, models.CASCADE)
    text = models.CharField(max_length=50)
