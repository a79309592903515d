// Starts the explorer. Keys stay in this page: they are neither filled in nor kept.
window.explorer = SwaggerUIBundle({
  url: "explorer/openapi.json",
  dom_id: "#explorer",
  deepLinking: true,
  docExpansion: "list",
  defaultModelsExpandDepth: -1, // a thousand schemas: each is shown with its operation
  filter: true,
  persistAuthorization: false,
  tryItOutEnabled: true,
  validatorUrl: null,
});
