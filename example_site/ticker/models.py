"""Share prices."""

from django.db import models


class Price(models.Model):
    """The price of a share on a day, in US dollars, adjusted for splits."""

    symbol = models.CharField(max_length=8)
    date = models.DateField()
    price = models.DecimalField(max_digits=8, decimal_places=2)

    class Meta:
        ordering = ("symbol", "date")
        constraints = (models.UniqueConstraint(fields=("symbol", "date"), name="ticker_price_day"),)

    def __str__(self) -> str:
        return f"{self.symbol} {self.date}: {self.price}"
