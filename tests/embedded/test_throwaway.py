import pytest
from django.db import connection, connections

def test_a(db):
    with connection.cursor() as c:
        c.execute("select current_user, current_database()"); print(c.fetchall())
    with connections["sequencer"].cursor() as c:
        c.execute("select current_user, current_database()"); print(c.fetchall())

def test_b(transactional_db):
    with connections["owner"].cursor() as c:
        c.execute("select current_user, current_database()"); print(c.fetchall())
        c.execute("insert into django_content_type(app_label, model) values('x','y')")
def test_c(transactional_db):
    with connections["owner"].cursor() as c:
        c.execute("select count(*) from django_content_type where app_label='x'"); assert c.fetchone()[0]==0
@pytest.mark.django_db(transaction=True)
def test_d():
    pass
