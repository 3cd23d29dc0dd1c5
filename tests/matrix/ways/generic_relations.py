"""Ways to change generic relations."""

from __future__ import annotations

from tests.matrix.models import Host

from .way import only, way


@way(only("generic"), least=1, moves=False, is_one_call=False)
def generic_add(sample):
    sample.hosts[1].notes.add(sample.row("a"), sample.row("b"))


@way(only("generic"), least=1, moves=False, is_one_call=False)
def generic_add_one_by_one(sample):
    sample.hosts[1].notes.add(sample.row("a"), bulk=False)


@way(only("generic"), least=1, moves=False)
def generic_create(sample):
    sample.hosts[1].notes.create(name=sample.new_name(), room=1)


@way(only("generic"), least=1, moves=False)
def generic_remove(sample):
    sample.hosts[0].notes.remove(sample.row("a"))


@way(only("generic"), least=1, moves=False)
def generic_clear(sample):
    sample.hosts[0].notes.clear()


@way(only("generic"), least=1, moves=False, is_one_call=False)
def generic_set(sample):
    sample.hosts[1].notes.set([sample.row("a")])


@way(only("generic"), least=1, moves=False)
def generic_update(sample):
    sample.hosts[0].notes.update(room=8)


@way(only("generic"), least=1, moves=False)
def generic_cascade(sample):
    sample.hosts[0].delete()


@way(only("generic"), least=1, moves=False)
def generic_cascade_of_a_query_set(sample):
    Host.objects.all().delete()
