// A user's session with openapi-generator's Go client; its argument is the server's URL.
package main

import (
	"context"
	"fmt"
	"net/http"
	"os"
	"reflect"

	client "story/taskapp_client"
)

const (
	email    = "go@example.com"
	password = "correct horse battery staple"
	noTask   = "01900000-0000-7000-8000-000000000000"
)

func equal(found, expected any) {
	if !reflect.DeepEqual(found, expected) {
		panic(fmt.Sprintf("%#v is not %#v", found, expected))
	}
}

// must returns the value of a call that succeeds.
func must[Value any](value *Value, _ *http.Response, err error) *Value {
	if err != nil {
		panic(err)
	}
	return value
}

// refusal returns the problem of a call that is refused.
func refusal[Value any](_ *Value, response *http.Response, err error) *client.Problem {
	failure, ok := err.(*client.GenericOpenAPIError)
	if !ok {
		panic(fmt.Sprintf("The call was not refused: %v", err))
	}
	problem := failure.Model().(client.Problem)
	equal(int(problem.GetStatus()), response.StatusCode)
	return &problem
}

func main() {
	ctx := context.Background()
	configuration := client.NewConfiguration()
	configuration.Servers = client.ServerConfigurations{{URL: os.Args[1]}}
	api := client.NewAPIClient(configuration)
	equal(must(api.HealthAPI.GetHealth(ctx).Execute()).GetStatus(), "healthy")
	equal(must(api.HealthAPI.GetLiveness(ctx).Execute()).GetStatus(), "live")
	equal(must(api.HealthAPI.GetReadiness(ctx).Execute()).GetStatus(), "ready")

	accounts := api.AuthenticationAPI
	account := *client.NewRegistration(email, password)
	registered := must(accounts.Register(ctx).Registration(account).Execute())
	taken := refusal(accounts.Register(ctx).Registration(account).Execute())
	equal(taken.GetStatus(), int32(409))
	equal(taken.GetErrors()[0].GetField(), "email")
	wrong := *client.NewLogin(email, "wrong")
	equal(refusal(accounts.LogIn(ctx).Login(wrong).Execute()).GetStatus(), int32(401))
	session := must(accounts.LogIn(ctx).Login(*client.NewLogin(email, password)).Execute())
	equal(session.User.GetId(), registered.GetUserId())
	equal(session.User.GetEmail(), email)
	tasks := api.TasksAPI
	equal(refusal(tasks.ListTasks(ctx).Execute()).GetStatus(), int32(401))
	ctx = context.WithValue(ctx, client.ContextAccessToken, session.GetToken())

	create := tasks.CreateTask(ctx).TaskCreate(*client.NewTaskCreate(" Buy milk "))
	milk := must(create.IdempotencyKey("milk").Execute())
	equal(milk.GetTitle(), "Buy milk")
	equal(milk.GetStatus(), client.PENDING)
	equal(must(create.IdempotencyKey("milk").Execute()), milk)
	for _, title := range []string{"Buy bread", "Call Ada"} {
		body := client.NewTaskCreate(title)
		body.SetDescription("\U0001f600\n")
		must(tasks.CreateTask(ctx).TaskCreate(*body).Execute())
	}
	invisible := *client.NewTaskCreate("\u200b")
	rejected := refusal(tasks.CreateTask(ctx).TaskCreate(invisible).Execute())
	equal(rejected.GetStatus(), int32(400))
	equal(rejected.GetErrors()[0].GetField(), "title")

	first := must(tasks.ListTasks(ctx).Limit(2).Execute())
	equal(len(first.GetTasks()), 2)
	equal(first.GetTasks()[0].GetTitle(), "Call Ada")
	second := must(tasks.ListTasks(ctx).Limit(2).After(first.GetNextCursor()).Execute())
	equal(second.GetTasks(), []client.Task{*milk})
	equal(second.NextCursor.Get() == nil, true)
	equal(refusal(tasks.ListTasks(ctx).After("nonsense").Execute()).GetStatus(), int32(400))

	id := milk.GetId()
	_, response, err := tasks.GetTask(ctx, id).Execute()
	equal(err, nil)
	version := response.Header.Get("ETag")
	_, response, _ = tasks.GetTask(ctx, id).IfNoneMatch(version).Execute()
	equal(response.StatusCode, 304)
	done := client.NewTaskUpdate()
	done.SetStatus(client.COMPLETED)
	update := tasks.UpdateTask(ctx, id).TaskUpdate(*done).IfMatch(version)
	changed := must(update.Execute())
	equal(changed.GetStatus(), client.COMPLETED)
	equal(changed.GetTitle(), "Buy milk")
	equal(refusal(update.Execute()).GetStatus(), int32(412))
	title := client.NewTaskUpdate()
	title.SetTitle("Buy oat milk")
	put := must(tasks.PutTask(ctx, id).TaskUpdate(*title).Execute())
	equal(put.GetStatus(), client.COMPLETED)
	equal(put.GetTitle(), "Buy oat milk")
	completed := must(tasks.ListTasks(ctx).Status(client.COMPLETED).Execute())
	equal(len(completed.GetTasks()), 1)
	equal(refusal(tasks.DeleteTask(ctx, id).IfMatch(version).Execute()).GetStatus(), int32(412))

	unknown := refusal(tasks.GetTask(ctx, noTask).Execute())
	equal(unknown.GetStatus(), int32(404))
	equal(unknown.GetType(), "about:blank")
	must(tasks.DeleteTask(ctx, id).Execute())
	equal(refusal(tasks.GetTask(ctx, id).Execute()).GetStatus(), int32(404))
	must(accounts.LogOut(ctx).Execute())
	equal(refusal(tasks.ListTasks(ctx).Execute()).GetStatus(), int32(401))
	fmt.Println("done")
}
