"""Mount the bindings: ``URLRouter(declbind.routing.websocket_urlpatterns)``."""

from django.urls import path

from declbind.live.consumers import BindingConsumer

websocket_urlpatterns = [path("ws/bindings/", BindingConsumer.as_asgi())]
