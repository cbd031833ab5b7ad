//! The OpenAPI document: made of the table of endpoints and the types of crate `api`, so that
//! neither can differ from it.

use schemars::SchemaGenerator;
use schemars::generate::SchemaSettings;
use serde_json::{Map, Value, json};

use crate::api::{ENDPOINTS, Endpoint};

/// OpenAPI 3.1, whose schemas are JSON Schema 2020-12.
pub(crate) fn document() -> Value {
    let settings = SchemaSettings::draft2020_12().with(|settings| {
        settings.definitions_path = "/components/schemas".into();
        settings.meta_schema = None;
    });
    let mut generator = SchemaGenerator::new(settings);
    let mut paths = Map::new();
    for endpoint in &ENDPOINTS {
        let method = if endpoint.body.is_some() { "post" } else { "get" };
        paths
            .insert(format!("/api{}", endpoint.path), json!({ method: operation(endpoint, &mut generator) }));
    }
    let problem = generator.subschema_for::<lb_api::http::Problem>();
    let schemas = generator.take_definitions(true);
    json!({
        "openapi": "3.1.0",
        "info": {
            "title": "lb",
            "description": "The running director: what it knows, and with a token what it does. A `200` of an order says that it \
                            was carried out.",
            "version": "1",
            "license": { "name": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "/" }],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": { "type": "http", "scheme": "bearer", "description": "A token of the director's file of tokens" },
            },
            "responses": {
                "Problem": {
                    "description": "It came to nothing",
                    "content": { "application/problem+json": { "schema": problem } },
                },
            },
        },
    })
}

fn operation(endpoint: &Endpoint, generator: &mut SchemaGenerator) -> Value {
    let parameters = endpoint.parameters.iter().copied().flatten().map(|parameter| {
        json!({
            "name": parameter.name,
            "in": "query",
            "description": parameter.about,
            "schema": { "type": parameter.kind },
        })
    });
    let mut operation = json!({
        "operationId": id(endpoint.path),
        "summary": endpoint.about,
        "parameters": parameters.collect::<Vec<Value>>(),
        "responses": {
            "200": {
                "description": "Done",
                "content": { "application/json": { "schema": (endpoint.reply)(generator) } },
            },
            "default": { "$ref": "#/components/responses/Problem" },
        },
    });
    if let Some(body) = endpoint.body {
        operation["requestBody"] =
            json!({ "required": true, "content": { "application/json": { "schema": body(generator) } } });
        operation["security"] = json!([{ "token": [] }]);
    }
    operation
}

/// `servers_disable` of `/v1/servers/disable`.
fn id(path: &str) -> String {
    path.trim_start_matches("/v1/").replace(['/', '.'], "_")
}
