"""What one writes next: a Django redirect that looks the link up in PostgreSQL and inserts a row for each click.

    CLICKS_SOCKET=FOLDER python django_postgres.py          makes the tables and one link
    CLICKS_SOCKET=FOLDER gunicorn --workers 2 --bind 127.0.0.1:8090 django_postgres:app

Set up for speed: no middleware, a connection that stays open. Each click is a transaction of its own, on disk before
the answer as PostgreSQL comes (`fsync = on`, `synchronous_commit = on`). Leaves out nearly everything else: no flags,
no click id in the destination, no attribution. FOLDER is where PostgreSQL has its socket and a database `clicks`.
"""

import os
import secrets

import django
from django.conf import settings
from django.core.wsgi import get_wsgi_application
from django.db import connection, models
from django.http import HttpRequest, HttpResponseRedirect
from django.shortcuts import get_object_or_404
from django.urls import path

settings.configure(
    ALLOWED_HOSTS=["*"],
    DATABASES={
        "default": {
            "ENGINE": "django.db.backends.postgresql",
            "NAME": "clicks",
            "USER": "postgres",
            "HOST": os.environ["CLICKS_SOCKET"],
            "CONN_MAX_AGE": None,
        }
    },
    ROOT_URLCONF=__name__,
    SECRET_KEY=secrets.token_hex(),
    USE_TZ=True,
)
django.setup()


class Link(models.Model):
    """Where a code leads."""

    code = models.TextField(primary_key=True)
    url = models.TextField()

    class Meta:
        app_label = "clicks"
        db_table = "links"


class Click(models.Model):
    """One redirect."""

    at = models.DateTimeField(auto_now_add=True)
    link = models.ForeignKey(Link, on_delete=models.PROTECT)
    visitor = models.TextField()
    ip = models.GenericIPAddressField()
    referrer = models.TextField()
    user_agent = models.TextField()

    class Meta:
        app_label = "clicks"
        db_table = "clicks"


def click(request: HttpRequest, code: str) -> HttpResponseRedirect:
    """Look up, record, redirect."""
    link = get_object_or_404(Link, code=code)
    visitor = request.COOKIES.get("visitor") or secrets.token_urlsafe(8)
    headers = request.headers
    Click.objects.create(
        link=link,
        visitor=visitor,
        ip=request.META["REMOTE_ADDR"],
        referrer=headers.get("Referer", ""),
        user_agent=headers.get("User-Agent", ""),
    )
    answer = HttpResponseRedirect(link.url, headers={"Cache-Control": "no-store"})
    answer.set_cookie("visitor", visitor, max_age=30 * 86_400, secure=True, httponly=True, samesite="None")
    return answer


urlpatterns = [path("c/<code>", click)]


app = get_wsgi_application()

if __name__ == "__main__":
    with connection.schema_editor() as editor:
        editor.create_model(Link)
        editor.create_model(Click)
    Link.objects.create(code="boots", url="https://shop.example/boots")
