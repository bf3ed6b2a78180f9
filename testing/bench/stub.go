package main

import "context"

func benchPeers(context.Context, []string) error { return nil }
func benchScale(context.Context, []string) error { return nil }
func runFill(context.Context, []string) error    { return nil }
func runOpen(context.Context, []string) error    { return nil }
func runReplay(context.Context, []string) error  { return nil }
