"""Address of the ticker."""

from django.urls import path

from example_site.ticker import views

urlpatterns = [path("", views.ticker, name="ticker")]
