package plugins

import (
	"bytes"
	"errors"
	"fmt"

	"github.com/santhosh-tekuri/jsonschema/v6"

	"github.com/wsrelay/relay/plugins/filter"
)

// schemaURL is what a plugin's schema is called among schemas.
const schemaURL = "config.json"

// checkSchema holds a configuration against the plugin's own schema. Plugins made
// with the SDK have done that themselves; others need not then. The error is
// about the schema.
func checkSchema(schema, config []byte) ([]filter.Problem, error) {
	value, err := jsonschema.UnmarshalJSON(bytes.NewReader(config))
	if err != nil {
		return []filter.Problem{{Message: "it is not JSON: " + err.Error()}}, nil
	}
	if len(bytes.TrimSpace(schema)) == 0 {
		if m, ok := value.(map[string]any); !ok || len(m) > 0 {
			return []filter.Problem{{Message: "this plugin takes no configuration"}}, nil
		}
		return nil, nil
	}
	doc, err := jsonschema.UnmarshalJSON(bytes.NewReader(schema))
	if err != nil {
		return nil, fmt.Errorf("the schema of its configuration is not JSON: %w", err)
	}
	c := jsonschema.NewCompiler()
	c.UseLoader(nothingElse{})
	if err := c.AddResource(schemaURL, doc); err != nil {
		return nil, fmt.Errorf("the schema of its configuration: %w", err)
	}
	s, err := c.Compile(schemaURL)
	if err != nil {
		return nil, fmt.Errorf("the schema of its configuration: %w", err)
	}
	var wrong *jsonschema.ValidationError
	if err := s.Validate(value); errors.As(err, &wrong) {
		return leaves(wrong.DetailedOutput(), nil), nil
	}
	return nil, nil
}

// leaves are the mistakes themselves, without what contains them.
func leaves(u *jsonschema.OutputUnit, list []filter.Problem) []filter.Problem {
	if len(u.Errors) == 0 && u.Error != nil {
		return append(list, filter.Problem{Path: u.InstanceLocation, Message: u.Error.String()})
	}
	for i := range u.Errors {
		list = leaves(&u.Errors[i], list)
	}
	return list
}

// nothingElse keeps a schema from making relay read files.
type nothingElse struct{}

func (nothingElse) Load(url string) (any, error) {
	return nil, fmt.Errorf("it refers to %s: a schema must be whole by itself", url)
}
