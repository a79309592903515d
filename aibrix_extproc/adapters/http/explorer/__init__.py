"""A page in a browser that shows the OpenAPI document and calls the gateway: Swagger UI, served from here.

Swagger UI (Apache-2.0, `LICENSE`) comes from its npm package by `make explorer`. It was taken because it can call
operations as well as show them, reads OpenAPI 3.1, and loads nothing from elsewhere. Others: Redoc does not call;
Scalar's bundle is twice as large, and asks for fonts and a proxy of its makers unless told not to.
"""
