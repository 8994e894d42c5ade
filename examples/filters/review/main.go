// Review is a relay filter that asks a moderation service over HTTP, the kind
// that answers POST /v1/moderations as OpenAI's does. That takes longer than
// anyone wants to wait for a message, so it is for mode async: messages go out at
// once, and those that the service flags are taken back.
//
//	filters:
//	  review:
//	    command: ["./review"]
//	    unpinned: true
//	    mode: async
//	    timeout: 100ms
//	    actions: [redact]
//	    env: {MODERATION_KEY: "${MODERATION_KEY}"}
//	    config: {url: "https://api.openai.com/v1/moderations"}
package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"log/slog"
	"net/http"
	"net/url"
	"os"
	"slices"
	"strings"
	"time"

	"github.com/wsrelay/relay/plugins/filter"
)

// Config is what relay.yaml has under config.
type Config struct {
	URL   string `json:"url" jsonschema:"required" jsonschema_description:"Where to POST {model, input}."`
	Model string `json:"model" jsonschema_description:"Model to ask for; the service's own default when empty."`
	AtOne int    `json:"at_once" jsonschema:"minimum=1" jsonschema_description:"Requests under way at a time; messages beyond that are let pass unseen and logged."`
}

func main() { Plugin().Serve() }

// Plugin is the filter; its test runs it in process.
func Plugin() filter.Plugin {
	return filter.Plugin{
		Name: "review", Version: "1", Stateless: true,
		Config:  filter.Configured(Config{AtOne: 32}, build),
		Actions: []filter.Action{filter.ActionReject},
	}
}

// patience is how long the service may take: relay listens for a minute.
const patience = 30 * time.Second

func build(c Config) (filter.Judge, error) {
	if u, err := url.Parse(c.URL); err != nil || u.Host == "" {
		return nil, filter.At("/url", "must be a URL such as https://api.openai.com/v1/moderations")
	}
	if c.AtOne < 1 {
		return nil, filter.At("/at_once", "must be at least 1")
	}
	places := make(chan struct{}, c.AtOne)
	client := &http.Client{Timeout: patience}
	return func(_ context.Context, m *filter.Message) (filter.Verdict, error) {
		select {
		case places <- struct{}{}:
		default:
			slog.Warn("too many requests under way; a message was not reviewed", "message", m.ID)
			return filter.Allow().Flag("unreviewed", 1), nil
		}
		go func() {
			defer func() { <-places }()
			found, err := ask(client, c, m.Text())
			if err != nil {
				slog.Error("asking the moderation service", "message", m.ID, "error", err)
				return
			}
			if len(found) == 0 {
				return
			}
			v := filter.Reject(found[0], "Removed: "+strings.Join(found, ", ")+".")
			for _, category := range found {
				v = v.Flag(category, 1)
			}
			if err := m.Later(v); err != nil {
				slog.Error("taking a message back", "message", m.ID, "error", err)
			}
		}()
		return filter.Allow(), nil
	}, nil
}

// ask returns the categories that the service flags a text for.
func ask(client *http.Client, c Config, text string) ([]string, error) {
	body, err := json.Marshal(struct {
		Model string `json:"model,omitempty"`
		Input string `json:"input"`
	}{c.Model, text})
	if err != nil {
		return nil, err
	}
	req, err := http.NewRequest(http.MethodPost, c.URL, bytes.NewReader(body))
	if err != nil {
		return nil, err
	}
	req.Header.Set("Content-Type", "application/json")
	if key := os.Getenv("MODERATION_KEY"); key != "" {
		req.Header.Set("Authorization", "Bearer "+key)
	}
	res, err := client.Do(req)
	if err != nil {
		return nil, err
	}
	defer res.Body.Close()
	if res.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the service answers %s", res.Status)
	}
	var answer struct {
		Results []struct {
			Flagged    bool            `json:"flagged"`
			Categories map[string]bool `json:"categories"`
		} `json:"results"`
	}
	if err := json.NewDecoder(io.LimitReader(res.Body, 1<<20)).Decode(&answer); err != nil {
		return nil, fmt.Errorf("reading the answer: %w", err)
	}
	var found []string
	for _, r := range answer.Results {
		for category, yes := range r.Categories {
			if r.Flagged && yes && !slices.Contains(found, category) {
				found = append(found, category)
			}
		}
	}
	slices.Sort(found)
	return found, nil
}
