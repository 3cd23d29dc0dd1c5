"""django-money: one field that is two columns, with a manager that rewrites queries."""

from __future__ import annotations

from django.db import models
from django.db.models import F
from djmoney.models.fields import MoneyField
from djmoney.money import Money

from tests.guests.steps import Steps


class Item(models.Model):
    title = models.CharField(max_length=50)
    room = models.IntegerField(default=1)
    price = MoneyField(max_digits=14, decimal_places=2, default_currency="EUR", default=1)
    cost = MoneyField(max_digits=14, decimal_places=2, null=True, default_currency=None)


def make(title, room):
    return Item.objects.create(title=title, room=room, price=Money(10, "EUR"))


RECORDS = [
    {
        "stream": "currencies",
        "model": "mysite.Item",
        "fields": ["price", "price_currency"],
        "groups": ["in-{price_currency}"],
    }
]
step = Steps()


@step
def amounts():
    row = Item.objects.create(title="dear", price=Money("99.90", "USD"), cost=Money("1.5", "CHF"))
    row.price = Money("89.90", "EUR")
    row.save()


@step
def amounts_worked_out():
    row = Item.objects.get(title="dear")
    row.price += Money(1, "EUR")
    row.cost = None
    row.save()
    Item.objects.filter(title="dear").update(price=F("price") * 2)


@step
def bulk_calls():
    rows = Item.objects.bulk_create([Item(title=f"bulk {number}", price=Money(number, "GBP")) for number in range(3)])
    rows = list(Item.objects.filter(price__gt=Money(0, "GBP")))
    for row in rows:
        row.price = Money(5, "USD")
    Item.objects.bulk_update(rows, ["price", "price_currency"])


@step
def update_of_both_columns():
    Item.objects.filter(title__startswith="bulk").update(price=Money(7, "JPY"))


@step
def delete_by_an_amount():
    Item.objects.filter(price=Money(7, "JPY")).delete()
